/* Says of which sources the library was made: whoever loads it compares, and calls no functions of another version. */

const char *stems_sources(void);

const char *stems_sources(void)
{
    return STEMS_SOURCES;
}
