/* The builds of the kernels, which of them this processor can run, and the names in the
 * lists of registry.h. */

#include <math.h>
#include <stddef.h>

#include "fastmlp.h"

#define NAME_OP(name, whole, form, kink) {#name, #form, kink},
const fm_op_info fm_op_infos[FM_N_OPS] = {FM_OPS(NAME_OP)};

#define FROM_y 1
#define FROM_z 0
#define NAME_ACTIVATION(name, class_name, from, range, form, kink, init, attr, attr_default,       \
                        formula, attr_least)                                                       \
    {#name,   #class_name, attr,  attr_default, attr_least, FROM_##from,                           \
     formula, #range,      #form, kink,         #init},
const fm_activation_info fm_activation_infos[FM_N_ACTIVATIONS] = {FM_ACTIVATIONS(NAME_ACTIVATION)};

#define NAME_FUNCTION(name, from, to) {#name, from, to},
const fm_function_info fm_function_infos[FM_N_FUNCTIONS] = {FM_FUNCTIONS(NAME_FUNCTION)};

#define TARGET_labels 1
#define TARGET_values 0
#define OUTPUTS_1 1
#define OUTPUTS_2 2
#define OUTPUTS_any 0
#define OUTPUTS_n_quantiles 0
#define KINK_kinked 1
#define KINK_smooth 0
#define NAME_LOSS(name, target, outputs, kink, form, binary)                                       \
    {#name, TARGET_##target, OUTPUTS_##outputs, KINK_##kink, #form, #binary},
const fm_loss_info fm_loss_infos[FM_N_LOSSES] = {FM_LOSSES(NAME_LOSS)};

#define NAME_OPTIMIZER(name, n_states) {#name, n_states},
const fm_optimizer_info fm_optimizer_infos[FM_N_OPTIMIZERS] = {FM_OPTIMIZERS(NAME_OPTIMIZER)};

#define NAME_SETTING(owner, type, name, value)                                                     \
    {#name, value, FM_SETTING_##type, offsetof(owner, name)},
#define NAME_HYPER(...) NAME_SETTING(fm_hyper, __VA_ARGS__)
#define NAME_LOSS_NUMBER(...) NAME_SETTING(fm_loss_settings, __VA_ARGS__)
const fm_setting_info fm_hyper_infos[] = {FM_HYPERS(NAME_HYPER){0}};
const fm_setting_info fm_loss_number_infos[] = {FM_LOSS_NUMBERS(NAME_LOSS_NUMBER){0}};

void fm_set(void *settings, const fm_setting_info *setting, double value) {
    void *field = (char *)settings + setting->offset;
    if (setting->type == FM_SETTING_double)
        *(double *)field = value;
    else if (setting->type == FM_SETTING_int32_t)
        *(int32_t *)field = (int32_t)value;
    else
        *(int64_t *)field = (int64_t)value;
}

extern const fm_kernels fm_f32_base, fm_f64_base;
#ifdef FM_X86_BUILDS
extern const fm_kernels fm_f32_v3, fm_f64_v3, fm_f32_v4, fm_f64_v4;
#endif

const fm_build *fm_builds(int64_t *n) {
    static fm_build builds[] = {
        {"base", &fm_f32_base, &fm_f64_base, 1},
#ifdef FM_X86_BUILDS
        {"v3", &fm_f32_v3, &fm_f64_v3, 0},
        {"v4", &fm_f32_v4, &fm_f64_v4, 0},
#endif
    };
#ifdef FM_X86_BUILDS
    /* test single features: clang does not know the names of the levels here */
    __builtin_cpu_init();
    builds[1].runs_here = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                          __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    builds[2].runs_here = builds[1].runs_here && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512cd") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    *n = sizeof builds / sizeof builds[0];
    return builds;
}
