/* The value of a loss over all rows, and what its mean divides by. */

#include <math.h>

#include "float_mode.h"
#include "run.h"
#include "small.h"

double fm_sum(const double *x, int64_t n) {
    double lane[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            lane[j] += x[i + j];
    for (int j = 0; i < n; i++, j++)
        lane[j] += x[i];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

int64_t fm_target_columns(int32_t loss, const fm_loss_settings *settings, int64_t n_out) {
    const fm_loss_info *info = &fm_loss_infos[loss];
    if (info->labels)
        return 1;
    const int64_t per_column = info->per_column ? info->per_column : settings->n_quantiles;
    return per_column > 0 && n_out % per_column == 0 ? n_out / per_column : 0;
}

const int64_t *fm_ignored_label(const fm_loss_settings *settings) {
    return settings->ignores ? &settings->ignored : NULL;
}

int64_t fm_counted_rows(int32_t loss, const fm_loss_settings *settings, const void *target,
                        const int64_t *order, int64_t n) {
    const int64_t *labels = target;
    int64_t counted = 0;
    if (!settings->ignores || !fm_loss_infos[loss].labels)
        return n;
    for (int64_t i = 0; i < n; i++)
        counted += __atomic_load_n(&labels[order ? order[i] : i], __ATOMIC_RELAXED) !=
                   settings->ignored; /* another thread may write to them at any moment */
    return counted;
}

/* Outputs whose losses are computed before a signal may be seen, and the work that one takes. */
enum {
    LOSS_OUTPUTS = 65536,
    LOSS_WORK = 256
};

/* A mean over no rows divides by 1, since its sum is 0. */
double fm_divisor_of(const fm_loss_settings *settings, int64_t counted) {
    return settings->sum || counted < 1 ? 1 : (double)counted;
}

static APART double loss_of_rows(const fm_kernels *k, int32_t loss,
                                 const fm_loss_settings *settings, double *row_loss, void *dz,
                                 const void *z, const void *target, const double *weights,
                                 int64_t n, int64_t n_out, const fm_poll *poll) {
    const double divisor =
        fm_divisor_of(settings, fm_counted_rows(loss, settings, target, NULL, n));
    const int64_t columns = fm_target_columns(loss, settings, n_out);
    const int64_t size = fm_loss_infos[loss].labels ? (int64_t)sizeof(int64_t) : k->real_size;
    const int64_t rows_at_once = LOSS_OUTPUTS / n_out + 1;
    double work = 0;
    for (int64_t r = 0; r < n; r += rows_at_once) {
        const int64_t rows = at_most(rows_at_once, n - r);
        void *own_dz = dz ? plus(dz, r * n_out, k) : NULL;
        k->losses[loss](row_loss + r, own_dz, plus(z, r * n_out, k),
                        (const char *)target + r * columns * size, NULL, 1 / divisor, rows, n_out,
                        settings);
        if (weights)
            k->weigh_rows(row_loss + r, own_dz, weights + r, NULL, rows, n_out);
        work += LOSS_WORK * (double)(rows * n_out);
        if (fm_ask_after(poll, &work))
            return NAN;
    }
    return fm_sum(row_loss, n) / divisor;
}

double fm_loss(const fm_kernels *k, int32_t loss, const fm_loss_settings *settings,
               double *row_loss, void *dz, const void *z, const void *target, const double *weights,
               int64_t n, int64_t n_out, const fm_poll *poll) {
    const uint32_t mode = default_mode();
    const double value =
        loss_of_rows(k, loss, settings, row_loss, dz, z, target, weights, n, n_out, poll);
    restore_mode(mode);
    return value;
}
