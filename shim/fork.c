/* New processes that are copies of this one.
 *
 * fork, _Fork and clone: the child tells the core that other threads are not in it. The child handlers of
 * pthread_atfork run before that, and may call hooks: what other threads held until then is only kept
 * a little longer. No atfork handler of our own: registering one costs every process at its start.
 * daemon and forkpty fork inside libc, change directory and replace descriptors behind our back.
 *
 * vfork: its child shares our memory, and with it the core's tables of descriptors and working
 * directory. The child closes, dups and changes directory before it execs, and its exec must carry
 * its own directory over, yet the parent's tables must not change. Two ways:
 * - With one thread, the core lends its tables (ovl_lend): what the child changes is put back when
 *   the parent wakes. The call is a true vfork; as its child returns into the caller's frame first,
 *   the call is made without a frame of its own, in assembly.
 * - Else (other threads would meet the child's changes) the hook clones with CLONE_VFORK but
 *   without CLONE_VM. The parent still waits till the child has exec'd or exited, which some
 *   callers rely on; only the child's writes to memory are not seen by the parent, which POSIX
 *   never promised. The price is the copying of page tables: it grows with the memory of the
 *   caller, to tens of milliseconds for a gigabyte.
 * Without an overlay the call is a jump to libc's vfork, which sees the program's return address.
 *
 * Left out on purpose: clone with CLONE_VM (threads, and children that borrow the memory
 * knowingly). */

#include "reads.h"

#include <sched.h>
#include <signal.h>
#include <sys/single_threaded.h>

int ovl_lent;
void *ovl_lent_memory;
size_t ovl_lent_size;

/* A child with memory of its own. */
static void begin_copy(void) {
  ovl_lent = 0;
  ovl_streams_after_fork();
  ovl_after_fork_child();
}

long ovl_fork_and_wait(void) {
  const long pid = lx_call6(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0, 0);
  if (pid == 0) begin_copy();
  return pid;
}

HOOKED(pid_t, fork, void) {
  const pid_t pid = NEXT(fork)();
  if (OVL_ON() && pid == 0) begin_copy();
  return pid;
}
HOOK_ALIAS(__fork, fork);
HOOK_ALIAS(__libc_fork, fork);

HOOKED(pid_t, _Fork, void) {
  const pid_t pid = NEXT(_Fork)();
  if (OVL_ON() && pid == 0) begin_copy();
  return pid;
}

/* In the parent, when the child has let go of the memory: the result of vfork. */
__attribute__((used)) static pid_t end_lending(long pid) {
  ovl_lent = 0;
  if (ovl_lent_memory != NULL) (void)lx_munmap(ovl_lent_memory, ovl_lent_size);
  ovl_lent_memory = NULL;
  ovl_lend_end();
  return (pid_t)ovl_result(pid);
}

/* The child runs on this stack, above and below: so the return address waits in a register, and the
 * parent calls anything only after the child is gone. */
pid_t ovl_vfork_lending(void) OVL_HIDDEN;
#if defined(__x86_64__)
__asm__(".pushsection .text\n"
        ".hidden ovl_vfork_lending\n"
        ".globl ovl_vfork_lending\n"
        ".type ovl_vfork_lending, @function\n"
        "ovl_vfork_lending:\n"
        "  .cfi_startproc\n"
        "  pop %rdi\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  .cfi_register %rip, %rdi\n"
        "  mov $58, %eax\n" /* vfork */
        "  syscall\n"
        "  push %rdi\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  test %rax, %rax\n"
        "  jz 1f\n"
        "  mov %rax, %rdi\n"
        "  jmp end_lending\n"
        "1: ret\n"
        "  .cfi_endproc\n"
        ".size ovl_vfork_lending, . - ovl_vfork_lending\n"
        ".popsection\n");
#elif defined(__aarch64__)
__asm__(".pushsection .text\n"
        ".hidden ovl_vfork_lending\n"
        ".globl ovl_vfork_lending\n"
        ".type ovl_vfork_lending, %function\n"
        "ovl_vfork_lending:\n"
        "  .cfi_startproc\n"
        "  mov x0, #0x4111\n" /* CLONE_VFORK | CLONE_VM | SIGCHLD */
        "  mov x1, #0\n"
        "  mov x2, #0\n"
        "  mov x3, #0\n"
        "  mov x4, #0\n"
        "  mov x8, #220\n" /* clone */
        "  svc #0\n"
        "  cbnz x0, end_lending\n"
        "  ret\n"
        "  .cfi_endproc\n"
        ".size ovl_vfork_lending, . - ovl_vfork_lending\n"
        ".popsection\n");
#endif

static int may_lend(void) {
  if (ovl_lent || !__libc_single_threaded || !ovl_lend()) return 0;
  return ovl_lent = 1;
}

HOOKED(pid_t, vfork, void) {
  if (OVL_ON()) {
    if (may_lend()) TAIL_CALL ovl_vfork_lending();
    return (pid_t)ovl_result(ovl_fork_and_wait());
  }
  TAIL_CALL NEXT(vfork)();
}
HOOK_ALIAS(__vfork, vfork);

struct clone_start {
  ovl_clone_body *body;
  void *argument;
};

static int begin_child(void *start) {
  const struct clone_start s = *(struct clone_start *)start;
  begin_copy();
  return s.body(s.argument);
}

/* The child has a copy of our frame, `start` included, whatever stack it runs on. */
HOOKED(int, clone, ovl_clone_body *body, void *stack, int flags, void *argument, void *parent,
       void *tls, void *child) {
  if (OVL_OFF() || (flags & CLONE_VM) != 0 || body == NULL)
    return NEXT(clone)(body, stack, flags, argument, parent, tls, child);
  struct clone_start start = {body, argument};
  return NEXT(clone)(begin_child, stack, flags, &start, parent, tls, child);
}
HOOK_ALIAS(__clone, clone);

HOOKED(int, daemon, int keep_directory, int keep_descriptors) {
  if (OVL_OFF()) return NEXT(daemon)(keep_directory, keep_descriptors);
  const pid_t pid = ovl_hook_fork();
  if (pid < 0) return -1;
  if (pid > 0) (void)lx_call6(SYS_exit_group, 0, 0, 0, 0, 0, 0);
  if (setsid() < 0) return -1;
  if (!keep_directory) (void)ovl_hook_chdir("/");
  if (keep_descriptors) return 0;
  const int fd = ovl_open_any(AT_FDCWD, "/dev/null", O_RDWR, 0);
  if (fd < 0) return -1;
  for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
    if (ovl_hook_dup2(fd, i) < 0) return -1;
  if (fd > STDERR_FILENO) ovl_fd_close(fd);
  return 0;
}

HOOKED(int, login_tty, int fd) {
  if (OVL_ON()) {
    ovl_fd_closing_range(STDIN_FILENO, STDERR_FILENO);
    ovl_fd_closing(fd);
  }
  return NEXT(login_tty)(fd);
}

HOOKED(int, forkpty, int *fd, char *name, const struct termios *settings,
       const struct winsize *size) {
  const int pid = NEXT(forkpty)(fd, name, settings, size);
  if (OVL_ON() && pid == 0) {
    begin_copy();
    ovl_fd_closing_range(STDIN_FILENO, STDERR_FILENO);
  }
  return pid;
}
