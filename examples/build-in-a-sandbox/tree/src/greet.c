#include "greet.h"

#include <ctype.h>
#include <stdio.h>

void greet(const char *name) {
  char line[80];
  snprintf(line, sizeof line, "hello, %s", name);
  if (SHOUT)
    for (char *c = line; *c; c++) *c = (char)toupper((unsigned char)*c);
  puts(line);
}
