#include <math.h>
#include <stdlib.h>

#include "quantiles.h"

void sample_add(struct sample *sample, double value)
{
    if (sample->length == sample->capacity) {
        sample->capacity = sample->capacity ? sample->capacity * 2 : 1024;
        sample->values = realloc(sample->values, sample->capacity * sizeof *sample->values);
        if (sample->values == NULL) {
            fputs("quantiles: out of memory\n", stderr);
            exit(1);
        }
    }
    sample->values[sample->length++] = value;
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

void sample_sort(struct sample *sample)
{
    if (sample->length > 0)
        qsort(sample->values, sample->length, sizeof *sample->values, ascending);
}

void sample_free(struct sample *sample)
{
    free(sample->values);
    *sample = (struct sample){0};
}

double sample_quantile(const struct sample *sample, double q)
{
    size_t rank = (size_t)ceil(q * (double)sample->length);
    return sample->values[rank == 0 ? 0 : rank - 1];
}

double sample_mean(const struct sample *sample)
{
    double sum = 0;
    for (size_t i = 0; i < sample->length; i++)
        sum += sample->values[i];
    return sum / (double)sample->length;
}

double sample_deviation(const struct sample *sample)
{
    double mean = sample_mean(sample), sum = 0;
    for (size_t i = 0; i < sample->length; i++)
        sum += (sample->values[i] - mean) * (sample->values[i] - mean);
    return sample->length < 2 ? 0 : sqrt(sum / (double)(sample->length - 1));
}
