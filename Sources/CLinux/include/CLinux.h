#ifndef CLINUX_H
#define CLINUX_H

/* The only door to libc's headers and the kernel for the Swift core: Embedded Swift has no Glibc
 * module. Nothing here is a libc call except clock_gettime, which is the vDSO. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"
#include "apart.h"
#include "atomics.h"
#include "bind.h"
#include "cpu.h"
#include "mapping.h"
#include "owner.h"
#include "pointers.h"
#include "process.h"
#include "running.h"
#include "syscalls.h"
#include "watching.h"

#endif
