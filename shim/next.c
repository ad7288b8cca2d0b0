/* The next definition of a hooked function: what dlsym(RTLD_NEXT) would answer, found by reading
 * the loaded objects' own symbol tables.
 *
 * Why not dlsym: it is hooked here itself, it takes the loader's lock and allocates (so it is wrong
 * in a signal handler, in a forked child of a threaded program, and under a preloaded allocator
 * that asks for readlink), and it costs more. The tables are found once, when the process starts;
 * objects present then are never unloaded, so a look-up needs no lock at any later time.
 *
 * Left out on purpose: objects that come by dlopen (they are never in the scope of RTLD_NEXT here),
 * and DT_HASH (glibc itself is built with DT_GNU_HASH). */

#include "hook.h"

#include <elf.h>

#define OBJECTS_MAX 128

struct object {
  uintptr_t base;
  uintptr_t end;
  const ElfW(Sym) * symbols;
  const char *strings;
  const ElfW(Half) * versions; /* NULL: none */
  const uint32_t *hash;        /* DT_GNU_HASH */
};

struct ovl_next ovl_next;

static struct object objects[OBJECTS_MAX];
/* With the initialised data: read before it is written, it would cost a page fault more in .bss. */
static int object_count __attribute__((section(".data")));
static int found_objects __attribute__((section(".data")));

static uint32_t gnu_hash(const char *name) {
  uint32_t h = 5381;
  for (; *name != '\0'; name++) h = h * 33 + (unsigned char)*name;
  return h;
}

static int same(const char *a, const char *b) {
  while (*a != '\0' && *a == *b) a++, b++;
  return *a == *b;
}

static void *find_in(const struct object *o, const char *name, uint32_t h) {
  const uint32_t *table = o->hash;
  const uint32_t buckets = table[0], first = table[1], words = table[2], shift = table[3];
  const ElfW(Addr) *bloom = (const ElfW(Addr) *)(table + 4);
  const uint32_t *bucket = (const uint32_t *)(bloom + words);
  const uint32_t *chain = bucket + buckets;
  if (buckets == 0 || words == 0) return NULL;
  const unsigned bits = sizeof(ElfW(Addr)) * 8;
  const ElfW(Addr) word = bloom[(h / bits) % words];
  if (((word >> (h % bits)) & (word >> ((h >> shift) % bits)) & 1) == 0) return NULL;
  uint32_t i = bucket[h % buckets];
  if (i < first) return NULL;
  for (;; i++) {
    const uint32_t link = chain[i - first];
    const ElfW(Sym) *symbol = &o->symbols[i];
    const int hidden = o->versions != NULL && (o->versions[i] & 0x8000) != 0;
    if ((link | 1) == (h | 1) && !hidden && symbol->st_shndx != SHN_UNDEF &&
        same(o->strings + symbol->st_name, name)) {
      void *address = (void *)(o->base + symbol->st_value);
      if ((symbol->st_info & 0xf) == STT_GNU_IFUNC) address = ((void *(*)(void))address)();
      return address;
    }
    if ((link & 1) != 0) return NULL;
  }
}

static int add_object(struct dl_phdr_info *info, size_t size, void *passed_ourselves) {
  (void)size;
  int *passed = passed_ourselves;
  const uintptr_t here = (uintptr_t)&add_object;
  const ElfW(Dyn) *dynamic = NULL;
  uintptr_t end = 0;
  int ours = 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *p = &info->dlpi_phdr[i];
    if (p->p_type == PT_DYNAMIC) dynamic = (const ElfW(Dyn) *)(info->dlpi_addr + p->p_vaddr);
    if (p->p_type == PT_LOAD && info->dlpi_addr + p->p_vaddr + p->p_memsz > end)
      end = info->dlpi_addr + p->p_vaddr + p->p_memsz;
    if (p->p_type == PT_LOAD && here - (info->dlpi_addr + p->p_vaddr) < p->p_memsz) ours = 1;
  }
  if (ours) *passed = 1;
  if (ours || !*passed || dynamic == NULL || object_count == OBJECTS_MAX) return 0;
  struct object o = {.base = info->dlpi_addr, .end = end};
  for (; dynamic->d_tag != DT_NULL; dynamic++) {
    const uintptr_t value = dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_SYMTAB) o.symbols = (const ElfW(Sym) *)value;
    if (dynamic->d_tag == DT_STRTAB) o.strings = (const char *)value;
    if (dynamic->d_tag == DT_VERSYM) o.versions = (const ElfW(Half) *)value;
    if (dynamic->d_tag == DT_GNU_HASH) o.hash = (const uint32_t *)value;
  }
  /* The loader leaves the kernel's vDSO unrelocated; nothing hooked is in there. */
  const int relocated = (uintptr_t)o.symbols >= o.base;
  if (o.hash != NULL && o.symbols != NULL && o.strings != NULL && relocated)
    objects[object_count++] = o;
  return 0;
}

static long not_in_libc(void) { return ovl_result(-ENOSYS); }

void *ovl_resolve(void **slot, const char *name) {
  if (!found_objects) { /* the constructor comes first, while the process has one thread */
    found_objects = 1;
    int passed_ourselves = 0;
    (void)dl_iterate_phdr(add_object, &passed_ourselves);
  }
  const uint32_t h = gnu_hash(name);
  void *found = NULL;
  for (int i = 0; found == NULL && i < object_count; i++) found = find_in(&objects[i], name, h);
  if (found == NULL) found = (void *)&not_in_libc;
  __atomic_store_n(slot, found, __ATOMIC_RELAXED);
  return found;
}

int ovl_same_object(const void *a, const void *b) {
  for (int i = 0; i < object_count; i++) {
    const uintptr_t base = objects[i].base, size = objects[i].end - base;
    if ((uintptr_t)a - base < size) return (uintptr_t)b - base < size;
  }
  return 0;
}
