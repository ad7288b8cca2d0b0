/* The audit library has no interface of its own: what it exports are rtld-audit(7)'s names. The package
 * manager wants a public header for a C target. */
