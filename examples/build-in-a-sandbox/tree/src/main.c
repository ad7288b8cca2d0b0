#include <stdio.h>

#include "greet.h"
#include "version.h"

int main(int argc, char **argv) {
  greet(argc > 1 ? argv[1] : "world");
  printf("version %s\n", VERSION);
  return 0;
}
