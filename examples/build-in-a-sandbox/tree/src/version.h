#define VERSION "not built yet"
