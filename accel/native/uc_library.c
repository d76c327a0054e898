/* Opens libunicorn and binds the functions that uc_library.h lists. */
#include "uc.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define UC_LIBRARY_NAMES_ONLY
#include "uc_library.h"

struct uc_functions uc_lib;

static const struct {
    const char *name;
    size_t place;
} bound[] = {
#define X(function) {#function, offsetof(struct uc_functions, function)},
    UC_FUNCTIONS(X)
#undef X
};

int emu_uc_library(const char *path, char *text, size_t size)
{
    if (uc_lib.handle != NULL)
        return 0;
    struct uc_functions found = {0};
    found.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (found.handle == NULL) {
        snprintf(text, size, "%s", dlerror());
        return -1;
    }
    for (size_t i = 0; i < sizeof bound / sizeof *bound; i++) {
        void *symbol = dlsym(found.handle, bound[i].name);
        if (symbol == NULL) {
            snprintf(text, size, "%s has no %s", path, bound[i].name);
            dlclose(found.handle);
            return -1;
        }
        memcpy((char *)&found + bound[i].place, &symbol, sizeof symbol);
    }
    uc_lib = found;
    return 0;
}

const char *emu_uc_library_name(void)
{
    return "unicorn/lib/libunicorn.so.2";
}

static char later[4096];

void emu_uc_library_later(const char *path)
{
    snprintf(later, sizeof later, "%s", path);
}

int emu_uc_library_now(char *text, size_t size)
{
    if (uc_lib.handle == NULL && later[0] == 0) {
        snprintf(text, size, "libunicorn is not open");
        return -1;
    }
    return emu_uc_library(later, text, size);
}

uint32_t emu_uc_version(void)
{
    return uc_lib.handle == NULL ? 0 : uc_lib.uc_version(NULL, NULL);
}
