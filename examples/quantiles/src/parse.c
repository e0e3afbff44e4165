#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quantiles.h"
#include "units.h"

static const char *skip_blanks(const char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    return text;
}

enum parse_result parse_line(const char *line, double *value, const char **base)
{
    const char *text = skip_blanks(line);
    if (*text == '\0' || *text == '#')
        return PARSE_BLANK;

    char *end;
    double number = strtod(text, &end);
    if (end == text || !isfinite(number))
        return PARSE_NOT_A_NUMBER;

    const char *suffix = skip_blanks(end);
    size_t length = strlen(suffix);
    while (length > 0 && isspace((unsigned char)suffix[length - 1]))
        length--;

    const char *this_base = length == 0 ? "" : NULL;
    for (size_t i = 0; this_base == NULL && i < sizeof UNITS / sizeof *UNITS; i++) {
        if (strlen(UNITS[i].suffix) == length && strncmp(UNITS[i].suffix, suffix, length) == 0) {
            number *= UNITS[i].factor;
            this_base = UNITS[i].base;
        }
    }
    if (this_base == NULL)
        return PARSE_NOT_A_NUMBER;
    if (*base != NULL && strcmp(*base, this_base) != 0)
        return PARSE_OTHER_UNIT;
    *base = this_base;
    *value = number;
    return PARSE_NUMBER;
}
