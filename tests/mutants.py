"""Tests with teeth: one-line bugs planted in the sources, each of which some test must catch.

    python tests/mutants.py             all of them, one at a time; exit code 1 if one survives
    python tests/mutants.py draw eps    those whose names contain one of these words
    python tests/mutants.py --list      their names

A copy of the source tree goes to a temporary folder; there each bug is planted, the package is
built with `pip install --no-build-isolation` and the tests below run against it until the first
failure. What is installed, and this tree, are left alone. The unchanged copy runs first: its
tests must pass, otherwise "caught" means nothing. The packages of [build-system] and of the
`test` extra are needed.

A new kernel brings its mutant with it: a place where a bug would still give plausible numbers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
# The quick ones first: pytest stops at the first failure.
TESTS = [
    "vmath",
    "golden",
    "optimizers",
    "regularization",
    "schedules",
    "losses",
    "dropout",
    "layers",
]
TESTS += ["weights", "core", "equivalences", "gradients", "norms", "norms_scale_shift"]
TESTS += ["derivatives", "second_order", "ignore_index"]
TESTS += ["products", "blocks", "lasso", "door", "quick", "quick_refusals", "quick_predict"]
TESTS += ["prelu_and_glu", "panels", "float_mode", "threads", "pace", "signals", "state_machine"]


class Mutant(NamedTuple):
    name: str
    file: str  # seen from csrc/
    old: str  # must occur exactly once
    new: str


MUTANTS = [
    Mutant(
        "panels: a weight gradient knows the first rows of x alone",
        "kernels/panel_product.h",
        ".a_block = PANEL_ROWS * n_in,",
        ".a_block = 0,",
    ),
    Mutant(
        "panels: the biases of the first tile are those of all",
        "kernels/panel_product.h",
        "t->bias = t->bias ? t->bias + height : NULL;",
        "t->bias = t->bias ? t->bias : NULL;",
    ),
    Mutant(
        "panels: a gradient is written beyond its end",
        "kernels/panel_product.h",
        "else if (n == LANES || t->c_end - c >= LANES)",
        "else if (n == LANES || t->c_end - c >= 0)",
    ),
    Mutant(
        "panels: later chains of rows replace the first",
        "kernels/panel_product.h",
        ".accumulate = accumulate || r0 > 0};",
        ".accumulate = accumulate};",
    ),
    Mutant(
        "panels: later blocks replace the first",
        "kernels/linear.c",
        "const int goes_on = ctx->first_row > 0;",
        "const int goes_on = 0;",
    ),
    Mutant(
        "panels: first columns of a row overwritten by those before it",
        "kernels/panel.h",
        "for (int64_t j = (width - 1) / LANES * LANES; j >= 0; j -= LANES) {",
        "for (int64_t j = 0; j < width; j += LANES) {",
    ),
    Mutant(
        "panels: every panel has the masks of the first",
        "kernels/dropout.c",
        "keys[i] = row_key(&f, ctx, r0 + i);",
        "keys[i] = row_key(&f, ctx, i);",
    ),
    Mutant(
        "panels: norms sum in one lane",
        "kernels/layer_norm.c",
        "squares[j % SUM_LANES] = fma_(d, d, squares[j % SUM_LANES]);",
        "squares[0] = fma_(d, d, squares[0]);",
    ),
    Mutant(
        "panels: the targets of the first rows are those of all",
        "train_rows.c",
        "loss_of_outputs(r, r0, r0 + rows, z, dz);",
        "loss_of_outputs(r, 0, rows, z, dz);",
    ),
    Mutant(
        "blocks: dropout counts rows from the block",
        "kernels/dropout.c",
        "(uint64_t)(ctx->first_row + r)",
        "(uint64_t)r",
    ),
    Mutant(
        "blocks: norms forget the blocks before",
        "kernels/layer_norm.c",
        "const int goes_on = ctx->first_row > 0;",
        "const int goes_on = 0;",
    ),
    Mutant(
        "blocks: biases forget the blocks before",
        "kernels/linear.c",
        "for (int v = 0; accumulate && v < vecs; v++)",
        "for (int v = 0; 0 && accumulate && v < vecs; v++)",
    ),
    Mutant(
        "blocks: the mean is over the block",
        "train_rows.c",
        "divisor_of(settings, r->counted_rows)",
        "divisor_of(settings, r->run.ctx->rows)",
    ),
    Mutant(
        "blocks: rows are gathered from the first block",
        "train_rows.c",
        "job->order + job->position + r->run.ctx->first_row;\n    const char *x",
        "job->order + job->position;\n    const char *x",
    ),
    Mutant(
        "breaking off: the update goes on",
        "train.c",
        "    if (fm_was_broken_off(team, &r->run))\n        return 0;",
        "    (void)fm_was_broken_off(team, &r->run);",
    ),
    Mutant(
        "breaking off: gradients stay",
        "train.c",
        "    if (!is_updated) {\n        fm_clear_gradients(&r->run);",
        "    if (!is_updated) {",
    ),
    Mutant(
        "blocking: the second chain begins with the first",
        "kernels/blocked.h",
        "const int begins = p % FM_CHAIN == 0,",
        "const int begins = p == 0,",
    ),
    Mutant(
        "blocking: later chains replace the first",
        "kernels/blocked.h",
        "t.accumulate = ends && !is_first;",
        "t.accumulate = 0;",
    ),
    Mutant(
        "blocking: gradients of earlier blocks are replaced",
        "kernels/blocked.h",
        "p < FM_CHAIN && !whole->accumulate;",
        "p < FM_CHAIN;",
    ),
    Mutant(
        "strips: a store of a whole vector wins over the next column",
        "kernels/pack.h",
        "for (int64_t r = (rows - 1) / LANES * LANES; r >= 0; r -= LANES) {",
        "for (int64_t r = 0; r < rows; r += LANES) {",
    ),
    Mutant(
        "weight gradients of narrow layers forget the blocks before",
        "kernels/product.h",
        "t.accumulate = whole->accumulate || p > 0;\n            t.a = whole->b",
        "t.accumulate = p > 0;\n            t.a = whole->b",
    ),
    Mutant(
        "quick way: labels may be any",
        "../src/fastmlp/quick.pxi",
        "rows, p.n_out,\n",
        "rows, 2**40,\n",
    ),
    Mutant(
        "quick way: another optimizer since then",
        "../src/fastmlp/quick.pxi",
        "or net._optimizer is not used or",
        "or",
    ),
    Mutant(
        "quick way: while averages stand in for weights",
        "../src/fastmlp/quick.pxi",
        "if self.turns.depth or not",
        "if not",
    ),
    Mutant(
        "quick way: settings may change while they are compared",
        "../src/fastmlp/quick.pxi",
        "if self.loss is not known or self.optimizer is not used or",
        "used = self.optimizer\n            if",
    ),
    Mutant(
        "first_outside: infinity is inside",
        "variant.c",
        "inside &= x[i] - x[i] == 0 && ",
        "inside &= ",
    ),
    Mutant(
        "lasso: the slope forgets the other features",
        "kernels/lasso.c",
        "for (int64_t i = 0; i < n; i++)\n                slope[i] -=",
        "for (int64_t i = j; i < n; i++)\n                slope[i] -=",
    ),
    Mutant(
        "gram: starts anew with every block of rows",
        "kernels/gram.c",
        ".accumulate = 1,",
        ".accumulate = 0,",
    ),
    Mutant(
        "gram: the packed product starts anew",
        "kernels/product.h",
        "t.accumulate = whole->accumulate || p > 0;\n            product(&t, form",
        "t.accumulate = p > 0;\n            product(&t, form",
    ),
    Mutant(
        "cholesky: accepts what is not positive definite",
        "kernels/gram.c",
        "rk[k] < 0 && rk[k] - rk[k] == 0",
        "rk[k] != 0",
    ),
    Mutant(
        "jacobian: rows of x after the first are the first",
        "jacobian.c",
        "plus(job->x, row * net->ops[0].n_in, r->k)",
        "plus(job->x, 0 * row, r->k)",
    ),
    Mutant(
        "relu: slope 1 at the kink",
        "kernels/activation.c",
        "pick(y <= 0, (vec){0}, splat(1))",
        "pick(y < 0, (vec){0}, splat(1))",
    ),
    Mutant(
        "gelu: cut too early",
        "kernels/activation.c",
        "pick(z < -60, (vec){0}, z * vnormal_cdf(z))",
        "pick(z < -5, (vec){0}, z * vnormal_cdf(z))",
    ),
    Mutant(
        "gelu_tanh: 1 - s cancels",
        "kernels/activation.c",
        "s * gelu_tanh_share(-c), s)",
        "s * (1 - s), s)",
    ),
    Mutant(
        "hardswish: no end above",
        "kernels/activation.c",
        "pick(z >= 3, z, between)",
        "between",
    ),
    Mutant(
        "glu: an area in the second half alone begins too far left",
        "kernels/glu.c",
        "j0 > n ? j0 - n : 0",
        "0",
    ),
    Mutant(
        "prelu: the sign from the output",
        "kernels/prelu.c",
        "const vec x = load_rest(op_x(op, ctx, r), j, area.j1);\n            const vec dx",
        "const vec x = load_rest(op_y(op, ctx, r), j, area.j1);\n            const vec dx",
    ),
    Mutant(
        "prelu: a later block forgets the earlier",
        "kernels/prelu.c",
        "ctx->first_row > 0 ? load_rest(dslope, j, j1) : (vec){0}",
        "(vec){0}",
    ),
    Mutant(
        "celu: slope as if alpha were 1",
        "kernels/activation.c",
        "y / a + 1",
        "y + 1",
    ),
    Mutant(
        "softplus: not divided by beta",
        "kernels/activation.c",
        "vlog1p_unit(vexp(-vabs(a * z))) / a",
        "vlog1p_unit(vexp(-vabs(a * z)))",
    ),
    Mutant(
        "radam: rectified from the first step on",
        "step.c",
        "return rho > 5 ? sqrt(",
        "return rho > 4 ? sqrt(",
    ),
    Mutant(
        "adadelta: no eps above",
        "kernels/optimizer.c",
        "vsqrt(s[1] + eps) / vsqrt(s[0] + eps)",
        "vsqrt(s[1]) / vsqrt(s[0] + eps)",
    ),
    Mutant(
        "adamax: the largest does not fade",
        "kernels/optimizer.c",
        "vmax(splat((real)h->beta2) * s[1],",
        "vmax(s[1],",
    ),
    Mutant(
        "rprop: does not rest after a turn",
        "kernels/optimizer.c",
        "s[0] = pick(turned, (vec){0}, g);",
        "s[0] = g;",
    ),
    Mutant(
        "soft cross entropy: order of the rows forgotten",
        "kernels/loss.c",
        "(const real *)target + at(order, r0 + r) * n_out;\n            lane_sums below",
        "(const real *)target + (r0 + r) * n_out;\n            lane_sums below",
    ),
    Mutant(
        "weighted cross entropy: weights of the first outputs for all",
        "kernels/loss.c",
        "                s.column = i;\n",
        "                s.column = 0;\n",
    ),
    Mutant(
        "silu: 1 - s cancels",
        "kernels/activation.c",
        "vsigmoid(c) * fma_(c, vsigmoid(-c), splat(1))",
        "vsigmoid(c) * fma_(c, 1 - vsigmoid(c), splat(1))",
    ),
    Mutant(
        "activations: last element of a row's rest not written",
        "kernels/activation.c",
        "store_part(y + i, name##_of(load_part(z + i, n - i), splat(a)), n - i);",
        "store_part(y + i, name##_of(load_part(z + i, n - i), splat(a)), n - i - 1);",
    ),
    Mutant(
        "exp: low part of ln 2 with the wrong sign",
        "kernels/vmath.h",
        "r = fma_(*n, splat(-LN2_LOW), r);",
        "r = fma_(*n, splat(LN2_LOW), r);",
    ),
    Mutant(
        "log1p: small arguments lose their digits",
        "kernels/vmath.h",
        "pick(n == 0, x, m - 1)",
        "m - 1",
    ),
    Mutant(
        "dropout: not scaled",
        "kernels/dropout.c",
        "(real)(1.0 / (1.0 - op->attr0))",
        "(real)1",
    ),
    Mutant(
        "dropout: one mask for all rows",
        "kernels/dropout.c",
        "fm_mix64(f->key ^ (uint64_t)(ctx->first_row + r))",
        "fm_mix64(f->key)",
    ),
    Mutant(
        "dropout: the mask depends on how rows are split over threads",
        "kernels/dropout.c",
        "const uint64_t key = row_key(&f, ctx, r);",
        "const uint64_t key = row_key(&f, ctx, r - area.r0);",
    ),
    Mutant(
        "dropout: one mask for all layers",
        "kernels/dropout.c",
        "fm_key(ctx->seed, ctx->draw, (uint64_t)op->variant)",
        "fm_key(ctx->seed, ctx->draw, 0)",
    ),
    Mutant(
        "linear: bias gradient without the first row",
        "kernels/linear.c",
        "for (int64_t r = r0; r < end; r++)\n#pragma",
        "for (int64_t r = r0 + 1; r < end; r++)\n#pragma",
    ),
    Mutant(
        "linear: bias gradient of the last block alone",
        "kernels/linear.c",
        "            all[v] += sum[v];",
        "            all[v] = sum[v];",
    ),
    Mutant(
        "gemm: blocks of k replace each other",
        "kernels/product.h",
        "t.accumulate = p > 0;\n            pack_columns",
        "t.accumulate = 0;\n            pack_columns",
    ),
    Mutant(
        "narrow weight gradient: blocks of rows replace each other",
        "kernels/product.h",
        "t.accumulate = whole->accumulate || p > 0;\n            t.a = whole->b",
        "t.accumulate = 0;\n            t.a = whole->b",
    ),
    Mutant(
        "gemm: last column of a transposed panel lost",
        "kernels/transpose.h",
        "i < rows ? load_upto",
        "i < rows - (rows < LANES) ? load_upto",
    ),
    Mutant(
        "cross_entropy: largest output not taken off",
        "kernels/loss.c",
        "s.top[r] = row_max(z + r * n_out, n_out);",
        "s.top[r] = 0;",
    ),
    Mutant(
        "binary_cross_entropy: loss of large outputs",
        "kernels/loss.c",
        "const vec linear = vmax(z, (vec){0}) - t * z;",
        "const vec linear = vabs(z) - t * z;",
    ),
    Mutant(
        "cross_entropy: smoothing in the loss alone",
        "kernels/loss.c",
        "* factor - shared;",
        "* factor;",
    ),
    Mutant(
        "cross_entropy: smoothing takes no share of the label",
        "kernels/loss.c",
        "below = (1 - smoothing) * below",
        "below = below",
    ),
    Mutant(
        "binary_cross_entropy: smoothing towards 0",
        "kernels/loss.c",
        "splat((real)(s.label_smoothing / 2))",
        "splat((real)0)",
    ),
    Mutant(
        "focal: slope of the logarithm alone",
        "kernels/loss.c",
        "weight * (1 - gamma * vexp(l) * ratio)",
        "weight",
    ),
    Mutant(
        "focal: logarithm of 0",
        "kernels/loss.c",
        "vexp(gamma * vlog(vmax(wrong, tiny)))",
        "vexp(gamma * vlog(wrong))",
    ),
    Mutant(
        "binary_focal: one weight for both answers",
        "kernels/loss.c",
        "(1 - y) * (real)s.negative",
        "(1 - y) * (real)s.positive",
    ),
    Mutant(
        "binary_focal: power of the right answer",
        "kernels/loss.c",
        "vexp(gamma * log_wrong)",
        "vexp(gamma * log_p)",
    ),
    Mutant(
        "absolute_error: slope at 0",
        "kernels/loss.c",
        "pick(e == 0, e, with_sign(splat(1), e))",
        "with_sign(splat(1), e)",
    ),
    Mutant(
        "huber: slope not cut",
        "kernels/loss.c",
        ".slope = with_sign(cut, e)",
        ".slope = e",
    ),
    Mutant(
        "tweedie: near the mean the terms cancel",
        "kernels/loss.c",
        "pick((step < 1) & (step > -1), y_power * expm1_small(step), far - y_power)",
        "(far - y_power)",
    ),
    Mutant(
        "poisson: no events at rate 0",
        "kernels/loss.c",
        "pick(y == 0, y, y * z)",
        "y * z",
    ),
    Mutant(
        "pinball: an output moves its own quantile alone",
        "kernels/loss.c",
        "later += column(",
        "later = column(",
    ),
    Mutant(
        "pinball: slope at 0",
        "kernels/loss.c",
        "pick(e < 0, -below, (vec){0})",
        "-below",
    ),
    Mutant(
        "pinball: targets of the first rows for all",
        "kernels/loss.c",
        "column(target + r0 * columns + c, columns, NULL, n)",
        "column(target + c, columns, NULL, n)",
    ),
    Mutant(
        "pinball: order of the first rows for all",
        "kernels/loss.c",
        "column(target + c, columns, order + r0, n)",
        "column(target + c, columns, order, n)",
    ),
    Mutant(
        "gaussian_nll: no smallest variance",
        "kernels/loss.c",
        "vsoftplus(spread) + (real)s->min_variance",
        "vsoftplus(spread)",
    ),
    Mutant(
        "gaussian_nll: mean over outputs",
        "kernels/loss.c",
        "parts(s, columns)",
        "parts(s, n_out)",
    ),
    Mutant(
        "gaussian_nll: slope of the variance, not of its output",
        "kernels/loss.c",
        "half * vsigmoid(spread) / v",
        "half / v",
    ),
    Mutant(
        "losses: the sum of rows is a mean over outputs",
        "kernels/loss.c",
        "return s->sum ? 1 : (double)n_terms;",
        "return (double)n_terms;",
    ),
    Mutant(
        "weights: of the batch, not of its rows",
        "kernels/loss.c",
        "weights[at(order, r)]",
        "weights[r]",
    ),
    Mutant(
        "weights: loss alone",
        "kernels/loss.c",
        "dz[j] * (real)weight;",
        "dz[j];",
    ),
    Mutant(
        "train: weights of the first rows for all",
        "train_rows.c",
        "order ? job->weights : job->weights + first",
        "job->weights",
    ),
    Mutant(
        "train: targets by outputs",
        "train_rows.c",
        "first * columns, k",
        "first * n_out, k",
    ),
    Mutant(
        "ignored rows count in the mean",
        "loss_value.c",
        "counted += __atomic_load_n(&labels[order ? order[i] : i], __ATOMIC_RELAXED) !=\n"
        "                   settings->ignored;",
        "counted++;",
    ),
    Mutant(
        "loss: the sum is divided by the rows",
        "loss_value.c",
        "return settings->sum || counted < 1 ? 1 : (double)counted;",
        "return counted < 1 ? 1 : (double)counted;",
    ),
    Mutant(
        "sgd: averaged momentum is the usual one",
        "kernels/optimizer.c",
        "h->averaged ? 1 - h->momentum : 1",
        "h->averaged ? 1 : 1",
    ),
    Mutant(
        "adam: no eps",
        "kernels/optimizer.c",
        "fma_(vsqrt(v), splat((real)(1 / h->correction2)), splat((real)h->eps))",
        "(vsqrt(v) * splat((real)(1 / h->correction2)))",
    ),
    Mutant(
        "adam: root of the second correction forgotten",
        "step.c",
        "sqrt(1 - pow(h.beta2, (double)t))",
        "(1 - pow(h.beta2, (double)t))",
    ),
    Mutant(
        "update: biases decay",
        "update.c",
        "at_most(UPDATE_CHUNK, end - first), weights);",
        "at_most(UPDATE_CHUNK, end - first), 1);",
    ),
    Mutant(
        "train: biases decay",
        "slices.c",
        "fm_update_range(r, step, op->b, s->n_biases, 0);",
        "fm_update_range(r, step, op->b, s->n_biases, 1);",
    ),
    Mutant(
        "amsgrad: the last v instead of the largest",
        "kernels/optimizer.c",
        "s[2] = vmax(s[1], s[2]);",
        "s[2] = s[1];",
    ),
    Mutant(
        "nadam: the product forgets its past",
        "step.c",
        "(t == 1 ? 1 : *product) * mu",
        "mu",
    ),
    Mutant(
        "nadam: one step late",
        "step.c",
        "pow(0.96, (double)(t + 1) * h->momentum_decay)",
        "pow(0.96, (double)t * h->momentum_decay)",
    ),
    Mutant(
        "adagrad: the sum is a running mean",
        "kernels/optimizer.c",
        "s[0] = fma_(g, g, s[0]);",
        "s[0] = mean_of(0.9, s[0], g * g);",
    ),
    Mutant(
        "rmsprop: momentum of the gradient, not of the step",
        "kernels/optimizer.c",
        "s[1] = fma_(splat((real)h->momentum), s[1], g / (vsqrt(s[0]) + splat((real)h->eps)));",
        "s[1] = fma_(splat((real)h->momentum), s[1], g) / (vsqrt(s[0]) + splat((real)h->eps));",
    ),
    Mutant(
        "rmsprop: centered by half of the mean",
        "kernels/optimizer.c",
        "vmax(fma_(-s[2], s[2], s[0]), (vec){0})",
        "vmax(fma_(-s[2], splat((real)0.5) * s[2], s[0]), (vec){0})",
    ),
    Mutant(
        "lion: no move to zero",
        "kernels/optimizer.c",
        "pick((s > 0) | (s < 0), with_sign(a, s), s)",
        "with_sign(a, s)",
    ),
    Mutant(
        "schedule free: z starts at zero",
        "kernels/optimizer.c",
        "h->is_first ? *p : s[0]",
        "s[0]",
    ),
    Mutant(
        "schedule free: the mean weighs all steps alike",
        "step.c",
        "const double weight = *largest_lr * *largest_lr;",
        "const double weight = 1;",
    ),
    Mutant(
        "penalty: l1 does not know the sign",
        "kernels/optimizer.c",
        "signed_as(splat((real)h->l1), p)",
        "splat((real)h->l1)",
    ),
    Mutant(
        "penalty: on biases",
        "step.c",
        "h.weight_decay = h.l1 = h.l2 = 0;",
        "h.weight_decay = 0;",
    ),
    Mutant(
        "clip_value: on one side",
        "kernels/optimizer.c",
        "pick(g > limit, limit, pick(g < -limit, -limit, g))",
        "pick(g > limit, limit, g)",
    ),
    Mutant(
        "clip_norm: lengthens short gradients",
        "update.c",
        "norm > clip_norm ? clip_norm / norm : 1",
        "clip_norm / norm",
    ),
    Mutant(
        "clip_norm: the rest behind whole blocks is left out",
        "kernels/optimizer.c",
        "for (int j = 0; i < n; i++, j++)\n        lane[j] += (double)x[i] * (double)x[i];",
        "",
    ),
    Mutant(
        "max_norm: rows instead of columns",
        "update.c",
        "s.n_weights / op->n_out, op->n_out,",
        "op->n_out, s.n_weights / op->n_out,",
    ),
    Mutant(
        "max_norm: the second block of columns is the first again",
        "update.c",
        "const int64_t j0 = chunk * FM_NORM_COLUMNS;",
        "const int64_t j0 = 0;",
    ),
    Mutant(
        "average: of what stood there before max_norm",
        "update.c",
        "if (!isfinite(h->max_norm))",
        "if (1)",
    ),
    Mutant(
        "swa: the first of the mean counts twice",
        "step.c",
        "1 / (double)ctx->n_averaged",
        "1 / (double)(ctx->n_averaged + 1)",
    ),
    Mutant(
        "schedule: every slice begins at its first rate",
        "train.c",
        "rates + 2 * (job->t - r->first_t)",
        "rates",
    ),
    Mutant(
        "schedule: the momentum stays as it was given",
        "step.c",
        "hyper.momentum = hyper.beta1 = rates[1];",
        "hyper.momentum = rates[1];",
    ),
    Mutant(
        "train: a short batch is divided by the full size",
        "train_rows.c",
        "divisor_of(settings, r->counted_rows), r1 - r0",
        "divisor_of(settings, job->batch_size), r1 - r0",
    ),
    Mutant(
        "train: the masks never change (draw)",
        "train.c",
        "    c->draw++;\n",
        "",
    ),
    Mutant(
        "shuffle: every epoch in one order",
        "arrays.c",
        "fm_key(seed, epoch, 0)",
        "fm_key(seed, 0, 0)",
    ),
    Mutant(
        "batch_norm: variance over rows - 1 in the pass itself",
        "kernels/batch_norm.c",
        "        total.v[v] /= (real)ctx->rows;",
        "        total.v[v] /= (real)(mean ? ctx->rows - 1 : ctx->rows);",
    ),
    Mutant(
        "batch_norm: running variance over rows",
        "kernels/batch_norm.c",
        "(i < op->n_out ? 1 : unbiased)",
        "(i < op->n_out ? unbiased / unbiased : 1)",
    ),
    Mutant(
        "batch_norm: the batch's statistics outside of training",
        "kernels/batch_norm.c",
        "ctx->training ? ctx->batch_stats : ctx->stats",
        "ctx->rows > 1 ? ctx->batch_stats : ctx->stats",
    ),
    Mutant(
        "batch_norm: way back as if the statistics were constants",
        "kernels/batch_norm.c",
        "ctx->training ? 1 / (real)ctx->rows : 0",
        "ctx->training ? 0 : 0",
    ),
    Mutant(
        "batch_norm: way back outside of training as in it",
        "kernels/batch_norm.c",
        "ctx->training ? 1 / (real)ctx->rows : 0",
        "1 / (real)ctx->rows",
    ),
    Mutant(
        "batch_norm: last rows left out of the sums",
        "kernels/batch_norm.c",
        "for (int64_t first = 0; first < ctx->rows; first += SUM_ROWS) {\n"
        "        const int64_t last = first + SUM_ROWS < ctx->rows "
        "? first + SUM_ROWS : ctx->rows;\n"
        "        group sum",
        "for (int64_t first = 0; first + SUM_ROWS <= ctx->rows; first += SUM_ROWS) {\n"
        "        const int64_t last = first + SUM_ROWS;\n"
        "        group sum",
    ),
    Mutant(
        "batch_norm: running statistics that are not finite",
        "kernels/batch_norm.c",
        "next - next == 0 ? next : running[i]",
        "next",
    ),
    Mutant(
        "batch_norm: without a scale or a shift as if the statistics were constants",
        "kernels/batch_norm.c",
        "return ctx->training ? sums_of_columns(op, ctx, j, end, f) : all;",
        "return all;",
    ),
    Mutant(
        "rms_norm: room for a shift that it never adds",
        "kernels/layer_norm.c",
        "is_scale_shift(op) && (centers || op->variant & FM_LACKS_SHIFT)",
        "is_scale_shift(op)",
    ),
    Mutant(
        "layer_norm: variance around zero",
        "kernels/layer_norm.c",
        "kept[0] = x[0] + row_sum(y, n) / (real)n;",
        "kept[0] = 0;",
    ),
    Mutant(
        "layer_norm: the mean of d stays",
        "kernels/layer_norm.c",
        "splat(centers ? tree_sum(&sums) / (real)n : 0)",
        "splat(0)",
    ),
    Mutant(
        "rms_norm: the mean of d goes too",
        "kernels/layer_norm.c",
        "splat(centers ? tree_sum(&sums) / (real)n : 0)",
        "splat(tree_sum(&sums) / (real)n)",
    ),
    Mutant(
        "norms: what belongs to another op's rows is kept",
        "kernels/layer_norm.c",
        "(op->y + op->n_out) * ctx->capacity + row * KEPT",
        "(op->y + op->n_out) * ctx->capacity + row",
    ),
    Mutant(
        "residual: the gradient around f is lost",
        "kernels/residual.c",
        "sum_area(dx, op_dy(op, ctx, 0), op_dy(op + op->variant, ctx, 0), op->n_in, area)",
        "copy_area(dx, op_dy(op, ctx, 0), op->n_in, area)",
    ),
    Mutant(
        "standardize: way back not divided",
        "kernels/standardize.c",
        "dy / load_rest(std, j, area.j1)",
        "dy",
    ),
    Mutant(
        "slices: the second array of a norm is not updated",
        "slices.c",
        "for (int64_t first = 0; first < s->n_biases; first += s->n_slices)",
        "for (int64_t first = 0; first < s->n_slices; first += s->n_slices)",
    ),
    Mutant(
        "train: running statistics are not kept",
        "train.c",
        "    fm_keep_stats(&r->run);\n    job->loss_sum += loss_sum;",
        "    job->loss_sum += loss_sum;",
    ),
    Mutant(
        "narrow weight gradient: every panel into the first rows",
        "kernels/product.h",
        "unpack_columns(whole->c + i * whole->c_row, whole->c_row, block, n, rows)",
        "unpack_columns(whole->c, whole->c_row, block, n, rows)",
    ),
    Mutant(
        "tanh: what t lost stays lost",
        "kernels/vmath.h",
        "fma_(q, t - (d - 2), fma_(q, low, low))",
        "q * (t - (d - 2))",
    ),
    Mutant(
        "normal distribution: the rounding of t stays",
        "kernels/vmath.h",
        "fma_(high, low_share, t * p_low)",
        "t * p_low",
    ),
    Mutant(
        "labels: one behind the last is used",
        "kernels/loss.c",
        "label < n_out ? label",
        "label <= n_out ? label",
    ),
    Mutant(
        "weights: 0 times infinity",
        "kernels/loss.c",
        "row_loss[r] = weight == 0 ? 0 : row_loss[r] * weight;",
        "row_loss[r] *= weight;",
    ),
    Mutant(
        "clip_norm: squares of large gradients overflow",
        "update.c",
        "(x[i] / largest) * (x[i] / largest)",
        "x[i] * x[i]",
    ),
    Mutant(
        "threads: the caller's floating-point mode",
        "team.c",
        "const uint32_t mode = default_mode();\n    run_in_mode",
        "const uint32_t mode = _mm_getcsr();\n    run_in_mode",
    ),
    Mutant(
        "threads: asks for what was never proven",
        "spare_threads.c",
        "proven += had < new ? had : new;",
        "proven += new;",
    ),
    Mutant(
        "stream: the elements before a whole vector stay as they were",
        "kernels/optimizer.c",
        "int good = head == 0 || name##_at(p, states, g, 0, head, &h, shaped);",
        "int good = 1;",
    ),
    Mutant(
        "products by columns: all of a block from its first vector",
        "kernels/pack.h",
        "j += LANES, c += LANES, from += LANES * PANEL_WIDTH)",
        "j += LANES, c += LANES)",
    ),
    Mutant(
        "single row: seven vectors where there are eight",
        "kernels/tile.h",
        "TILE_CASE(1, 8)",
        "case 24: tile(t, 1, 7, LANES, LANES); return;",
    ),
    Mutant(
        "exp: cut off too early",
        "kernels/vmath.h",
        "vmin(splat(EXP_HIGH), x)",
        "vmin(splat(EXP_HIGH - 2), x)",
    ),
    Mutant(
        "outputs: the last element of a short row is not copied",
        "train_rows.c",
        "for (; i < bytes; i += 4)",
        "for (; i + 4 < bytes; i += 4)",
    ),
    Mutant(
        "pace: a slower way is kept",
        "pace.c",
        "const int is_faster = found < GAIN * p->mean;",
        "const int is_faster = found > GAIN * p->mean;",
    ),
    Mutant(
        "pace: nothing is tried before its time",
        "pace.c",
        "p->mean > SLOWED * p->chosen",
        "p->mean > 1e9 * p->chosen",
    ),
    Mutant(
        "check: statistics may overlap",
        "check.c",
        "from->stats = s.n_stats ? op->s + s.n_stats : from->stats;",
        "",
    ),
    Mutant(
        "losses: later blocks of rows have the targets of the first",
        "loss_value.c",
        "(const char *)target + r * columns * size",
        "(const char *)target + 0 * columns * size",
    ),
    Mutant(
        "counters: the steps of a new optimizer go on from the old one's",
        "../src/fastmlp/network/state.py",
        "context.t, context.running = 0, (0.0, 0.0)",
        "context.running = (0.0, 0.0)",
    ),
]


def check_list(mutants: list[Mutant]) -> None:
    """Before any work: does each still find its place?"""
    for mutant in mutants:
        found = (ROOT / "csrc" / mutant.file).read_text().count(mutant.old)
        if found != 1:
            raise SystemExit(
                f"{mutant.name}: {mutant.old!r} stands {found} times in csrc/{mutant.file}, not "
                "once; bring the list in tests/mutants.py up to date"
            )


def plant(tree: Path, mutant: Mutant) -> str:
    """Change one file of the copy; returns what stood there."""
    path = tree / "csrc" / mutant.file
    text = path.read_text()
    path.write_text(text.replace(mutant.old, mutant.new))
    return text


def build(tree: Path) -> None:
    """Into tree/installed; the folder of the compiler's output is kept from mutant to mutant."""
    target = tree / "installed"
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation"]
    command += ["--no-deps", "--disable-pip-version-check", "--target", str(target)]
    command += [f"--config-settings=build-dir={tree / 'compiled'}", str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the build failed:\n{done.stdout}{done.stderr}")


def run_tests(tree: Path, names: list[str]) -> str:
    """The name of the first test that fails, or nothing."""
    installed = tree / "installed"
    environment = {**os.environ, "PYTHONPATH": str(installed), "CI": "1"}
    run = partial(subprocess.run, env=environment, cwd=tree, capture_output=True, text=True)
    where = [sys.executable, "-c", "import fastmlp; print(fastmlp.__file__)"]
    found = run(where, check=True).stdout.strip()
    if not Path(found).is_relative_to(installed):
        raise SystemExit(f"the tests would import {found}, not the mutant")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    command += [f"tests/test_{name}.py" for name in names]
    done = run(command, check=False)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return "crash"
    if done.returncode != 1 or not failed:  # no test failed: something else is wrong
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return failed[0].removeprefix("FAILED ").split(" - ")[0]


def copy_tree(tree: Path) -> None:
    """The sources, without what builds and tools have left behind."""
    leave = shutil.ignore_patterns(".*", "build", "dist", "benchmarks", "docs", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=leave, dirs_exist_ok=True)


def check(mutants: list[Mutant]) -> int:
    """Try each; returns how many survive."""
    check_list(mutants)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="fastmlp-mutants-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        build(tree)
        if failed := run_tests(tree, TESTS):
            raise SystemExit(f"without any bug planted, {failed} fails: mend that first")
        print("control    everything passes without a bug", flush=True)
        for mutant in mutants:
            original = plant(tree, mutant)
            build(tree)
            failed = run_tests(tree, TESTS)
            (tree / "csrc" / mutant.file).write_text(original)
            survivors += not failed
            print(f"{'caught' if failed else 'SURVIVED':10} {mutant.name}  {failed}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} caught")
    return survivors


def main(words: list[str]) -> int:
    if words == ["--list"]:
        print("\n".join(mutant.name for mutant in MUTANTS))
        return 0
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    if not chosen:
        raise SystemExit("no mutant has such a name; see --list")
    return 1 if check(chosen) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
