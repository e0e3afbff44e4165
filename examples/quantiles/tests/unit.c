/* Prints one line per check: "ok NAME" or "not ok NAME". */
#include <math.h>
#include <string.h>

#include "quantiles.h"

static int failures;

static void check(const char *name, int holds)
{
    printf("%s %s\n", holds ? "ok" : "not ok", name);
    failures += !holds;
}

static void parses(const char *line, double expected)
{
    const char *base = NULL;
    double value = NAN;
    check(line, parse_line(line, &value, &base) == PARSE_NUMBER && fabs(value - expected) <= 1e-12 * fabs(expected));
}

int main(void)
{
    parses("12", 12);
    parses(" 3.5ms", 3.5e-3);
    parses("64 KiB\n", 65536);
    parses("-1e3", -1000);

    const char *base = NULL;
    double value;
    check("a comment is blank", parse_line("# 12", &value, &base) == PARSE_BLANK);
    check("words are no numbers", parse_line("twelve", &value, &base) == PARSE_NOT_A_NUMBER);
    check("unknown units are refused", parse_line("12 parsec", &value, &base) == PARSE_NOT_A_NUMBER);
    check("infinity is refused", parse_line("inf", &value, &base) == PARSE_NOT_A_NUMBER);
    base = "s";
    check("units may not be mixed", parse_line("12 kB", &value, &base) == PARSE_OTHER_UNIT);

    struct sample sample = {.base = ""};
    for (int i = 5000; i > 0; i--)
        sample_add(&sample, i);
    sample_sort(&sample);
    check("the median of 1 to 5000", sample_quantile(&sample, .5) == 2500);
    check("the least", sample_quantile(&sample, 0) == 1);
    check("the largest", sample_quantile(&sample, 1) == 5000);
    check("the mean", sample_mean(&sample) == 2500.5);
    check("the deviation", fabs(sample_deviation(&sample) - 1443.520003) < 1e-6);
    sample_free(&sample);

    char text[64];
    format_value(text, sizeof text, 0.00123, "s");
    check("a time in its best unit", strcmp(text, "1.23 ms") == 0);
    format_value(text, sizeof text, 65536, "B");
    check("a size in its best unit", strcmp(text, "65.5 kB") == 0);
    return failures != 0;
}
