/* The lists. The enums, the kernel tables and the names that Python reads are all
 * generated from here. */
#ifndef FASTMLP_REGISTRY_H
#define FASTMLP_REGISTRY_H

/* X(name, whole, form, kink): kernels/<name>.c defines <name>_sizes, <name>_forward, <name>_slope,
 * <name>_backward, <name>_param_grad and <name>_keep_stats; and for panels <name>_panel_forward,
 * <name>_panel_backward and <name>_panel_param_grad.
 *
 *   whole  Whether an area must hold its rows or its columns whole, or nothing.
 *   form   As a function of its input outside of training: straight, linear in pieces; or curved.
 *   kink   As for activations, which have their own. */
#define FM_OPS(X)                                                                                  \
    X(linear, nothing, straight, NAN)                                                              \
    X(activation, nothing, curved, NAN)                                                            \
    X(glu, nothing, curved, NAN)                                                                   \
    X(prelu, nothing, straight, 0)                                                                 \
    X(dropout, nothing, straight, NAN)                                                             \
    X(layer_norm, rows, curved, NAN)                                                               \
    X(rms_norm, rows, curved, NAN)                                                                 \
    X(batch_norm, columns, straight, NAN)                                                          \
    X(standardize, nothing, straight, NAN)                                                         \
    X(branch, nothing, straight, NAN)                                                              \
    X(add, nothing, straight, NAN)

/* X(name, PythonClass, derivative from, range, form, kink, first weights, attribute, its default,
 * formula, its least value)
 *
 * kernels/activation.c defines <name>_of(z, a) and <name>_slope(s, a).
 *
 *   derivative from  y: the derivative is a function of the output; z: of the input. Use y if
 *                    possible: `linear` keeps y alone, so it can only fuse with such activations.
 *   range            unbounded: to both sides; half_open: to one side, with a slope everywhere;
 *                    half_flat: to one side, and constant on the other; bounded: to neither.
 *   form             straight: linear in pieces; or curved.
 *   kink             The slope or its derivative jumps at plus and minus this number; NAN: nowhere.
 *   first weights    The initializer of the Linear that comes before the activation. */
#define FM_ACTIVATIONS(X)                                                                          \
    X(identity, Identity, y, unbounded, straight, NAN, glorot_uniform, "", 0, "z", 0)              \
    X(relu, ReLU, y, half_flat, straight, 0, he_normal, "", 0, "max(z, 0)", 0)                     \
    X(leaky_relu, LeakyReLU, y, unbounded, straight, 0, he_normal, "slope", 0.01,                  \
      "z if z > 0 else slope z (slope >= 0)", 0)                                                   \
    X(elu, ELU, y, half_open, curved, 0, he_normal, "alpha", 1,                                    \
      "z if z > 0 else alpha (exp(z) - 1) (Clevert et al. 2016)", 0)                               \
    X(celu, CELU, y, half_open, curved, 0, he_normal, "alpha", 1,                                  \
      "z if z > 0 else alpha (exp(z / alpha) - 1) (Barron 2017)", 1e-6)                            \
    X(selu, SELU, y, half_open, curved, 0, xavier_normal, "", 0,                                   \
      "1.0507 elu(z, 1.6733) (Klambauer et al. 2017)", 0)                                          \
    X(gelu, GELU, z, half_open, curved, NAN, he_normal, "", 0,                                     \
      "z Phi(z), Phi the normal distribution (Hendrycks, Gimpel 2016)", 0)                         \
    X(gelu_tanh, GELUTanh, z, half_open, curved, NAN, he_normal, "", 0,                            \
      "z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2, near GELU and faster (same paper)", 0)   \
    X(silu, SiLU, z, half_open, curved, NAN, he_normal, "", 0,                                     \
      "z sigmoid(z) (Elfwing et al. 2018)", 0)                                                     \
    X(hardswish, Hardswish, z, half_flat, curved, 3, he_normal, "", 0,                             \
      "z min(max(z + 3, 0), 6) / 6 (Howard et al. 2019)", 0)                                       \
    X(mish, Mish, z, half_open, curved, NAN, he_normal, "", 0, "z tanh(softplus(z)) (Misra 2019)", \
      0)                                                                                           \
    X(softplus, Softplus, y, half_open, curved, NAN, he_normal, "beta", 1,                         \
      "log(1 + exp(beta z)) / beta, nearer to ReLU with a larger beta", 1e-6)                      \
    X(sigmoid, Sigmoid, y, bounded, curved, NAN, glorot_uniform, "", 0,                            \
      "1 / (1 + exp(-z)), the lecture's logistic function", 0)                                     \
    X(tanh, Tanh, y, bounded, curved, NAN, glorot_uniform, "", 0, "tanh(z)", 0)

/* X(name, from, to): kernels/vmath.h defines v<name>(x) for x in [from, to]. The tests read this
 * list and compare each function with high-precision values. */
#define FM_FUNCTIONS(X)                                                                            \
    X(exp, -INFINITY, INFINITY)                                                                    \
    X(expm1_negative, -INFINITY, 0)                                                                \
    X(log, 0, INFINITY)                                                                            \
    X(log1p_unit, 0, 1)                                                                            \
    X(tanh, -INFINITY, INFINITY)                                                                   \
    X(sigmoid, -INFINITY, INFINITY)                                                                \
    X(softplus, -INFINITY, INFINITY)                                                               \
    X(normal_cdf, -INFINITY, INFINITY)

/* X(name, target, outputs, kink, form, binary sibling): kernels/loss.c defines <name>_rows.
 *
 *   target          labels: one column, whatever the number of outputs; or values.
 *   outputs         Outputs for each column of values; n_quantiles is a setting.
 *   kink            kinked: the slope jumps somewhere; or smooth.
 *   form            As a function of an output: straight far out, a parabola, or curved.
 *   binary sibling  The same loss for a single output; or none. */
#define FM_LOSSES(X)                                                                               \
    X(cross_entropy, labels, any, smooth, curved, binary_cross_entropy)                            \
    X(binary_cross_entropy, values, 1, smooth, curved, none)                                       \
    X(squared_error, values, 1, smooth, parabola, none)                                            \
    X(absolute_error, values, 1, kinked, straight, none)                                           \
    X(huber, values, 1, kinked, straight, none)                                                    \
    X(poisson, values, 1, smooth, curved, none)                                                    \
    X(tweedie, values, 1, smooth, curved, none)                                                    \
    X(pinball, values, n_quantiles, kinked, curved, none)                                          \
    X(gaussian_nll, values, 2, smooth, curved, none)                                               \
    X(focal, labels, any, smooth, curved, binary_focal)                                            \
    X(binary_focal, values, 1, smooth, curved, none)                                               \
    X(soft_cross_entropy, values, 1, smooth, curved, binary_cross_entropy)

/* X(name, number of state arrays, at most FM_MAX_STATES): kernels/optimizer.c
 * defines <name>_step. */
#define FM_OPTIMIZERS(X)                                                                           \
    X(sgd, 1)                                                                                      \
    X(adam, 2)                                                                                     \
    X(adamw, 2)                                                                                    \
    X(amsgrad, 3)                                                                                  \
    X(nadam, 2)                                                                                    \
    X(radam, 2)                                                                                    \
    X(adagrad, 1)                                                                                  \
    X(rmsprop, 2)                                                                                  \
    X(centered_rmsprop, 3)                                                                         \
    X(lion, 1)                                                                                     \
    X(schedule_free_adamw, 2)                                                                      \
    X(adadelta, 2)                                                                                 \
    X(adamax, 2)                                                                                   \
    X(rprop, 2)

/* X(type, name, default): the settings of optimizers, each under the name of its field in Python. A
 * step reads only its own from its fm_hyper.
 *
 * Averages of the parameters take every average_every-th step from average_start on.
 * average_decay is the decay of a running mean; 0 means a plain mean. */
#define FM_HYPERS(X)                                                                               \
    X(double, lr, 0)                                                                               \
    X(double, weight_decay, 0)                                                                     \
    X(double, momentum, 0)                                                                         \
    X(double, beta1, 0)                                                                            \
    X(double, beta2, 0)                                                                            \
    X(double, eps, 0)                                                                              \
    X(double, momentum_decay, 0)                                                                   \
    X(int32_t, nesterov, 0)                                                                        \
    X(int32_t, averaged, 0)                                                                        \
    X(double, shrink, 0.5)                                                                         \
    X(double, grow, 1.2)                                                                           \
    X(double, min_step, 0)                                                                         \
    X(double, max_step, INFINITY)                                                                  \
    X(double, l1, 0)                                                                               \
    X(double, l2, 0)                                                                               \
    X(double, clip_norm, INFINITY)                                                                 \
    X(double, clip_value, INFINITY)                                                                \
    X(double, max_norm, INFINITY)                                                                  \
    X(double, average_decay, 0)                                                                    \
    X(int64_t, average_start, 0)                                                                   \
    X(int64_t, average_every, 1)

/* X(type, name, default): the settings of losses that are numbers, each under the name of its field
 * in Python. A loss reads only its own from its fm_loss_settings.
 *
 *   sum                 1: sum over rows and outputs instead of the mean
 *   label_smoothing     share of the target that is spread evenly over all classes
 *   delta               huber: the loss is linear beyond this error
 *   gamma               focal: exponent of the probability of a wrong answer
 *   positive, negative  binary_focal: weights of targets 1 and 0
 *   min_variance        gaussian_nll: least variance
 *   power               tweedie: the variance is proportional to this power of the mean */
#define FM_LOSS_NUMBERS(X)                                                                         \
    X(int32_t, sum, 0)                                                                             \
    X(double, label_smoothing, 0)                                                                  \
    X(double, delta, 1)                                                                            \
    X(double, gamma, 0)                                                                            \
    X(double, positive, 1)                                                                         \
    X(double, negative, 1)                                                                         \
    X(double, min_variance, 0)                                                                     \
    X(double, power, 1.5)

#endif
