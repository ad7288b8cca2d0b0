/* The shim has no interface of its own: what it exports are libc's names (hooks.def), and what it
 * calls is declared in abi.h. The package manager wants a public header for a C target. */
