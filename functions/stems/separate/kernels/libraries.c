#define _GNU_SOURCE
#include "libraries.h"

#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ENTRIES = 512 };

/* Of an entry of /proc/self/pagemap: in memory or swapped; mapped from a file. */
static const uint64_t THERE = 3ull << 62, OF_FILE = 1ull << 61;

/* Whether no page was written to: by the loader, a debugger, or who puts code into large pages. */
static int unwritten(int pagemap, uintptr_t start, uintptr_t end, uintptr_t page)
{
    uint64_t entries[ENTRIES];
    while (start < end) {
        size_t count = (end - start) / page < ENTRIES ? (end - start) / page : ENTRIES;
        ssize_t size = (ssize_t)(count * sizeof *entries);
        if (pread(pagemap, entries, (size_t)size, (off_t)(start / page * sizeof *entries)) != size)
            return 0;
        for (size_t i = 0; i < count; i++)
            if (entries[i] & THERE && !(entries[i] & OF_FILE))
                return 0;
        start += count * page;
    }
    return 1;
}

/* The C library calls this with its lock held: nothing is loaded or unloaded meanwhile. */
static int release(struct dl_phdr_info *loaded, size_t size, void *pagemap)
{
    (void)size;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (!loaded->dlpi_name || !strchr(loaded->dlpi_name, '/'))
        return 0;
    for (int i = 0; i < loaded->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &loaded->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || segment->p_flags & PF_W)
            continue;
        uintptr_t start = loaded->dlpi_addr + segment->p_vaddr;
        uintptr_t end = (start + segment->p_filesz) & -page;
        start = (start + page - 1) & -page;
        if (start < end && unwritten(*(int *)pagemap, start, end, page))
            madvise((void *)start, end - start, MADV_DONTNEED); /* a failure costs nothing: the pages stay */
    }
    return 0;
}

int stems_release(void)
{
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return -1;
    dl_iterate_phdr(release, &pagemap);
    close(pagemap);
    return 0;
}
