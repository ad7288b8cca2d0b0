/* Writes a greeting to standard output. */
void greet(const char *name);
