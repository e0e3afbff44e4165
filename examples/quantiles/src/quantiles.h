/* quantiles: what a column of numbers looks like. */
#ifndef QUANTILES_H
#define QUANTILES_H

#include <stddef.h>
#include <stdio.h>

/* A suffix that a number may carry. */
struct unit {
    const char *suffix;
    double factor;
    const char *base;
};

/* The numbers read so far; sorted by sample_sort. */
struct sample {
    double *values;
    size_t length;
    size_t capacity;
    const char *base; /* the unit they are in: "", "s" or "B" */
};

enum parse_result { PARSE_NUMBER, PARSE_BLANK, PARSE_NOT_A_NUMBER, PARSE_OTHER_UNIT };

/* Reads one line ("12", "3.5ms", "64 KiB") into *value. *base is the unit of the lines before, or NULL for the first. */
enum parse_result parse_line(const char *line, double *value, const char **base);

void sample_add(struct sample *sample, double value);
void sample_sort(struct sample *sample);
void sample_free(struct sample *sample);

/* The smallest value that at least the fraction q of all values does not exceed (the nearest rank). */
double sample_quantile(const struct sample *sample, double q);
double sample_mean(const struct sample *sample);
double sample_deviation(const struct sample *sample);

/* Writes the figures, and a histogram of `rows` rows when rows is not 0. */
void report(FILE *out, const struct sample *sample, unsigned rows);

/* Writes a value with three significant digits in the unit that reads best. */
void format_value(char *buffer, size_t size, double value, const char *base);

#endif
