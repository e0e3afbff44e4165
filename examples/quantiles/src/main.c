#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "quantiles.h"

static const char USAGE[] =
    "usage: quantiles [-H ROWS] [FILE...]\n"
    "\n"
    "Reads numbers, one a line (12, 3.5ms, 64 KiB), and prints their mean, deviation and quantiles.\n"
    "Blank lines and lines that begin with # are skipped. Without FILE it reads standard input.\n"
    "\n"
    "  -H ROWS  also print a histogram of ROWS rows (1 to 64)\n";

static int fail(const char *name, const char *reason)
{
    fprintf(stderr, "quantiles: %s: %s\n", name, reason);
    return 1;
}

static int read_all(FILE *in, const char *name, struct sample *sample)
{
    static const char *const REASONS[] = {
        [PARSE_NOT_A_NUMBER] = "not a number with a known unit",
        [PARSE_OTHER_UNIT] = "not in the unit of the lines before",
    };
    char *text = NULL;
    size_t capacity = 0, number = 0;
    int code = 0;
    while (code == 0 && getline(&text, &capacity, in) != -1) {
        double value;
        number++;
        enum parse_result result = parse_line(text, &value, &sample->base);
        if (result == PARSE_NUMBER) {
            sample_add(sample, value);
        } else if (result != PARSE_BLANK) {
            char place[512];
            snprintf(place, sizeof place, "%s:%zu", name, number);
            code = fail(place, REASONS[result]);
        }
    }
    if (code == 0 && ferror(in))
        code = fail(name, strerror(errno));
    free(text);
    return code;
}

int main(int argc, char **argv)
{
    struct sample sample = {0};
    long rows = 0;
    int next = 1, code = 0;

    if (next < argc && (strcmp(argv[next], "-h") == 0 || strcmp(argv[next], "--help") == 0)) {
        fputs(USAGE, stdout);
        return 0;
    }
    if (next + 1 < argc && strcmp(argv[next], "-H") == 0) {
        char *end;
        rows = strtol(argv[next + 1], &end, 10);
        if (*end != '\0' || rows < 1 || rows > 64)
            return fail(argv[next + 1], "rows are a number from 1 to 64");
        next += 2;
    }
    if (next == argc)
        code = read_all(stdin, "stdin", &sample);
    for (; code == 0 && next < argc; next++) {
        FILE *in = fopen(argv[next], "r");
        if (in == NULL) {
            code = fail(argv[next], strerror(errno));
            break;
        }
        code = read_all(in, argv[next], &sample);
        fclose(in);
    }
    if (code == 0 && sample.length == 0)
        code = fail("input", "no numbers");
    if (code == 0) {
        sample_sort(&sample);
        report(stdout, &sample, (unsigned)rows);
    }
    sample_free(&sample);
    return code;
}
