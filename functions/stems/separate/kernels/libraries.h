#ifndef STEMS_LIBRARIES_H
#define STEMS_LIBRARIES_H

/*
 * Let go of the pages of all loaded libraries that are mapped as they stand in their files. Most were read but once,
 * to load them: 220 MiB of torch's. What is used again comes back from the system's cache by itself.
 * 0, or -1 where the system does not tell what the pages are.
 */
int stems_release(void);

#endif
