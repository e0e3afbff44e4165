#include <math.h>
#include <string.h>

#include "quantiles.h"

/* From the largest; the first one that leaves at least 1 before the point is taken. */
static const struct unit TIMES[] = {{"s", 1, "s"}, {"ms", 1e-3, "s"}, {"us", 1e-6, "s"}, {"ns", 1e-9, "s"}};
static const struct unit SIZES[] = {{"GB", 1e9, "B"}, {"MB", 1e6, "B"}, {"kB", 1e3, "B"}, {"B", 1, "B"}};

void format_value(char *buffer, size_t size, double value, const char *base)
{
    const struct unit *units = strcmp(base, "s") == 0 ? TIMES : strcmp(base, "B") == 0 ? SIZES : NULL;
    if (units == NULL || value == 0) {
        snprintf(buffer, size, "%.6g%s%s", value, *base ? " " : "", base);
        return;
    }
    size_t i = 0;
    while (i < 3 && fabs(value) < units[i].factor)
        i++;
    snprintf(buffer, size, "%.3g %s", value / units[i].factor, units[i].suffix);
}

static void line(FILE *out, const char *name, double value, const char *base)
{
    char text[64];
    format_value(text, sizeof text, value, base);
    fprintf(out, "%-6s %s\n", name, text);
}

static void histogram(FILE *out, const struct sample *sample, unsigned rows)
{
    double low = sample->values[0], high = sample->values[sample->length - 1];
    double width = (high - low) / rows;
    size_t largest = 0, counts[64] = {0};
    if (width == 0)
        rows = 1;
    for (size_t i = 0; i < sample->length; i++) {
        unsigned row = width == 0 ? 0 : (unsigned)((sample->values[i] - low) / width);
        counts[row < rows ? row : rows - 1]++;
    }
    for (unsigned row = 0; row < rows; row++)
        if (counts[row] > largest)
            largest = counts[row];
    fputc('\n', out);
    for (unsigned row = 0; row < rows; row++) {
        char text[64];
        format_value(text, sizeof text, low + width * row, sample->base);
        fprintf(out, "%10s |", text);
        for (size_t bar = 0; bar < (counts[row] * 40 + largest - 1) / largest; bar++)
            fputc('#', out);
        fprintf(out, " %zu\n", counts[row]);
    }
}

void report(FILE *out, const struct sample *sample, unsigned rows)
{
    static const struct { const char *name; double q; } QUANTILES[] = {
        {"min", 0}, {"p10", .1}, {"p50", .5}, {"p90", .9}, {"p99", .99}, {"p99.9", .999}, {"max", 1},
    };
    fprintf(out, "%-6s %zu\n", "n", sample->length);
    line(out, "mean", sample_mean(sample), sample->base);
    line(out, "sd", sample_deviation(sample), sample->base);
    for (size_t i = 0; i < sizeof QUANTILES / sizeof *QUANTILES; i++)
        line(out, QUANTILES[i].name, sample_quantile(sample, QUANTILES[i].q), sample->base);
    if (rows > 0)
        histogram(out, sample, rows);
}
