"""Functional optimizers for JAX: every method one (init, update) pair over pytrees."""

from jaxopt_ko import (
    catalog,
    contrib,
    data,
    debug,
    diagnose,
    errors,
    landscapes,
    loop,
    losses,
    normalization,
    numerics,
    schedules,
    solve,
    states,
    transforms,
    tree,
    tree_utils,
    types,
)
from jaxopt_ko.averages import eval_params
from jaxopt_ko.compose import (
    InjectHyperparamsState,
    InjectStatefulHyperparamsState,
    MaskedState,
    MultiTransformState,
    PartitionState,
    StatefulSchedule,
    WrappedSchedule,
    WrappedScheduleState,
    apply_updates,
    chain,
    identity,
    init_empty_state,
    inject_hyperparams,
    inject_stateful_hyperparams,
    labels_by_path,
    masked,
    multi_transform,
    named_chain,
    partition,
    stateless,
    stateless_with_tree_map,
    with_extra_args_support,
)
from jaxopt_ko.distributions import multi_normal
from jaxopt_ko.hypers import ScheduledState
from jaxopt_ko.lift import (
    leafwise,
    transform,
)
from jaxopt_ko.linear_algebra import matrix_inverse_pth_root, nnls, power_iteration
from jaxopt_ko.losses import (
    cosine_distance,
    cosine_similarity,
    ctc_loss,
    ctc_loss_with_forward_probs,
    generalized_kl_divergence,
    hinge_loss,
    huber_loss,
    kl_divergence,
    l2_loss,
    log_cosh,
    mean_squared_error,
    ntxent,
    safe_softmax_cross_entropy,
    sigmoid_binary_cross_entropy,
    sigmoid_focal_loss,
    smooth_labels,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    squared_error,
)
from jaxopt_ko.naming import published
from jaxopt_ko.normalization import BatchNorm, BatchNormParams, BatchNormState, batch_norm
from jaxopt_ko.numerics import safe_increment, safe_norm, safe_root_mean_squares
from jaxopt_ko.optimizers.adabelief import (
    ScaleByBeliefState,
    acprop,
    adabelief,
    scale_by_acprop,
    scale_by_belief,
)
from jaxopt_ko.optimizers.adadelta import (
    ScaleByAdaDeltaState,
    adadelta,
    scale_by_adadelta,
)
from jaxopt_ko.optimizers.adafactor import (
    FactoredState,
    adafactor,
    scale_by_factored_rms,
)
from jaxopt_ko.optimizers.adagrad import (
    ScaleByRssState,
    adagrad,
    scale_by_rss,
)
from jaxopt_ko.optimizers.adam import (
    ScaleByAdamState,
    ScaleByNadamState,
    adam,
    adamax,
    adamaxw,
    adamw,
    nadam,
    nadamw,
    scale_by_adam,
    scale_by_adamax,
    scale_by_nadam,
)
from jaxopt_ko.optimizers.adamc import adamc
from jaxopt_ko.optimizers.adamuon import (
    ScaleByAdaMuonState,
    ScaleByNorMuonState,
    adamuon,
    normuon,
    scale_by_adamuon,
    scale_by_normuon,
)
from jaxopt_ko.optimizers.adan import (
    ScaleByAdanState,
    adan,
    scale_by_adan,
)
from jaxopt_ko.optimizers.ademamix import (
    ScaleByAdemamixState,
    ScaleBySimplifiedAdEMAMixState,
    ademamix,
    scale_by_ademamix,
    scale_by_simplified_ademamix,
    simplified_ademamix,
)
from jaxopt_ko.optimizers.adopt import (
    adopt,
    scale_by_adopt,
)
from jaxopt_ko.optimizers.amsgrad import (
    ScaleByAmsgradState,
    amsgrad,
    scale_by_amsgrad,
)
from jaxopt_ko.optimizers.apollo import ScaleByApolloState, apollo, scale_by_apollo
from jaxopt_ko.optimizers.cocob import COCOBState, cocob, scale_by_cocob
from jaxopt_ko.optimizers.dadaptation import DAdaptAdamWState, dadapt_adamw
from jaxopt_ko.optimizers.dion import ScaleByDionState, dion, scale_by_dion
from jaxopt_ko.optimizers.dog import (
    DoGState,
    DoWGState,
    ScaleByDistanceOverGradientsState,
    dog,
    dowg,
    scale_by_distance_over_gradients,
    scale_by_dog,
    scale_by_dowg,
)
from jaxopt_ko.optimizers.fromage import (
    fromage,
)
from jaxopt_ko.optimizers.galore import (
    GaLoreDimensionNumbers,
    GaLoreState,
    galore,
    scale_by_galore,
)
from jaxopt_ko.optimizers.kl_shampoo import (
    ScaleByKlShampooState,
    ScaleByKlSoapState,
    kl_shampoo,
    kl_soap,
    scale_by_kl_shampoo,
    scale_by_kl_soap,
)
from jaxopt_ko.optimizers.kron import (
    ScaleByKronState,
    psgd_kron,
    scale_by_kron,
)
from jaxopt_ko.optimizers.lamb import (
    lamb,
)
from jaxopt_ko.optimizers.lars import (
    lars,
)
from jaxopt_ko.optimizers.lion import (
    ScaleByLionState,
    lion,
    scale_by_lion,
)
from jaxopt_ko.optimizers.madgrad import (
    MadgradState,
    madgrad,
    scale_by_madgrad,
)
from jaxopt_ko.optimizers.momo import MomoAdamState, MomoState, momo, momo_adam
from jaxopt_ko.optimizers.muon import (
    MuonDimensionNumbers,
    MuonState,
    muon,
    orthogonalize,
    scale_by_muon,
)
from jaxopt_ko.optimizers.noisy_sgd import (
    noisy_sgd,
)
from jaxopt_ko.optimizers.novograd import (
    ScaleByNovogradState,
    novograd,
    scale_by_novograd,
)
from jaxopt_ko.optimizers.optimistic import (
    ScaleByOptimisticGradientState,
    optimistic_adam_v2,
    optimistic_gradient_descent,
    scale_by_optimistic_gradient,
)
from jaxopt_ko.optimizers.polyak import polyak_sgd, scale_by_polyak
from jaxopt_ko.optimizers.prodigy import ProdigyState, prodigy
from jaxopt_ko.optimizers.radam import (
    radam,
    scale_by_radam,
)
from jaxopt_ko.optimizers.rmsprop import (
    ScaleByRmsState,
    ScaleByRmsWithCountState,
    ScaleByRStdDevState,
    ScaleByRStdDevWithCountState,
    rmsprop,
    scale_by_rms,
    scale_by_stddev,
)
from jaxopt_ko.optimizers.rprop import (
    ScaleByRpropState,
    rprop,
    scale_by_rprop,
)
from jaxopt_ko.optimizers.scion import scale_by_lmo, scion
from jaxopt_ko.optimizers.sgd import (
    sgd,
)
from jaxopt_ko.optimizers.shampoo import (
    ScaleByShampooState,
    scale_by_shampoo,
    shampoo,
)
from jaxopt_ko.optimizers.sign import (
    scale_by_sign,
    sign_sgd,
    signum,
)
from jaxopt_ko.optimizers.sm3 import (
    ScaleBySM3State,
    scale_by_sm3,
    sm3,
)
from jaxopt_ko.optimizers.soap import (
    ScaleBySoapState,
    scale_by_soap,
    soap,
)
from jaxopt_ko.optimizers.sophia import (
    SophiaState,
    scale_by_sophia,
    sophia,
)
from jaxopt_ko.optimizers.splus import (
    ScaleBySplusState,
    scale_by_splus,
    splus,
)
from jaxopt_ko.optimizers.yogi import (
    scale_by_yogi,
    yogi,
)
from jaxopt_ko.program import (
    linear_program,
    quadratic_program,
)
from jaxopt_ko.rates import learning_rate, learning_rates, step_count
from jaxopt_ko.roles import ROLES, roles_of
from jaxopt_ko.schedules import (
    constant_schedule,
    cosine_decay_schedule,
    cosine_onecycle_schedule,
    exponential_decay,
    inverse_sqrt_schedule,
    inverse_time_decay,
    join_schedules,
    linear_onecycle_schedule,
    linear_schedule,
    piecewise_constant_schedule,
    piecewise_interpolate_schedule,
    polynomial_schedule,
    sgdr_schedule,
    warmup_constant_schedule,
    warmup_cosine_decay_schedule,
    warmup_exponential_decay_schedule,
    warmup_stable_decay_schedule,
)
from jaxopt_ko.solve import (
    least_squares,
    minimize,
    root,
)
from jaxopt_ko.solvers import (
    projections,
)
from jaxopt_ko.solvers.augmented import (
    AugmentedLagrangianState,
    augmented_lagrangian,
)
from jaxopt_ko.solvers.conjugate_gradient import (
    ScaleByNonlinearCgState,
    nonlinear_cg,
    scale_by_nonlinear_cg,
)
from jaxopt_ko.solvers.descent import (
    DescentState,
    descent,
)
from jaxopt_ko.solvers.interior_point import (
    InteriorPointState,
    interior_point,
)
from jaxopt_ko.solvers.lbfgsb import (
    LBFGSBState,
    lbfgsb,
)
from jaxopt_ko.solvers.least_squares import (
    LeastSquaresState,
    gauss_newton,
    levenberg_marquardt,
)
from jaxopt_ko.solvers.linear import (
    LinearCgState,
    cg,
)
from jaxopt_ko.solvers.linesearch import (
    BacktrackingLinesearchInfo,
    ScaleByBacktrackingLinesearchState,
    ScaleByZoomLinesearchState,
    ZoomLinesearchInfo,
    scale_by_backtracking_linesearch,
    scale_by_hager_zhang_linesearch,
    scale_by_zoom_linesearch,
    value_and_grad_from_state,
)
from jaxopt_ko.solvers.newton import (
    ScaleByNewtonCgState,
    ScaleByNewtonState,
    newton,
    newton_cg,
    scale_by_newton,
    scale_by_newton_cg,
)
from jaxopt_ko.solvers.proximal import (
    ProximalGradientState,
    keep_in,
    projected_gradient,
    prox_elastic_net,
    prox_group_lasso,
    prox_lasso,
    prox_non_negative_lasso,
    prox_non_negative_ridge,
    prox_none,
    prox_nuclear_norm,
    prox_ridge,
    proximal_gradient,
)
from jaxopt_ko.solvers.quadratic import (
    QuadraticState,
)
from jaxopt_ko.solvers.quasi_newton import (
    ScaleByBfgsState,
    ScaleByLBFGSState,
    bfgs,
    lbfgs,
    scale_by_bfgs,
    scale_by_lbfgs,
)
from jaxopt_ko.solvers.trust_region import (
    TrustRegionState,
)
from jaxopt_ko.stacking import MatrixAxes
from jaxopt_ko.transforms.averaging import (
    AverageParamsState,
    EmaState,
    average_params,
    averaged_params,
    ema,
)
from jaxopt_ko.transforms.centering import (
    centralize,
)
from jaxopt_ko.transforms.clipping import (
    adaptive_grad_clip,
    clip,
    clip_by_block_rms,
    clip_by_global_norm,
    clip_by_norm,
    per_example_global_norm_clip,
    per_example_layer_norm_clip,
    unitwise_clip,
    unitwise_norm,
)
from jaxopt_ko.transforms.constraints import (
    ZeroNansState,
    keep_params_nonnegative,
    zero_nans,
)
from jaxopt_ko.transforms.decay import (
    WeightDecaySchedule,
    add_cautious_decayed_weights,
    add_corrected_decayed_weights,
    add_decayed_weights,
)
from jaxopt_ko.transforms.hutchinson import (
    HutchinsonState,
    hutchinson_estimator_diag_hessian,
)
from jaxopt_ko.transforms.hyperball import HyperballState, hyperball
from jaxopt_ko.transforms.momentum import (
    TraceState,
    trace,
)
from jaxopt_ko.transforms.noise import (
    AddNoiseState,
    add_noise,
)
from jaxopt_ko.transforms.normalizing import (
    normalize,
    normalize_by_update_norm,
)
from jaxopt_ko.transforms.qk_clip import QKHeads, qk_clip
from jaxopt_ko.transforms.scaling import (
    ScaleByScheduleState,
    scale,
    scale_by_group,
    scale_by_learning_rate,
    scale_by_schedule,
    set_to_zero,
)
from jaxopt_ko.transforms.trust_ratio import (
    scale_by_param_block_norm,
    scale_by_param_block_rms,
    scale_by_trust_ratio,
)
from jaxopt_ko.tree import (
    bias_correction,
    global_norm,
    update_infinity_moment,
    update_moment,
    update_moment_per_elem_norm,
)
from jaxopt_ko.tree import map_params as tree_map_params
from jaxopt_ko.types import (
    KKT,
    AdaptiveGradClipState,
    AddDecayedWeightsState,
    ClipByGlobalNormState,
    ClipState,
    Code,
    EmptyState,
    Evaluations,
    GradientTransformation,
    GradientTransformationExtraArgs,
    Hyper,
    Info,
    MaskedNode,
    MaskOrFn,
    Multipliers,
    NonNegativeParamsState,
    NormalizeState,
    OptState,
    Params,
    ScalarOrSchedule,
    ScaleByTrustRatioState,
    ScaleState,
    Schedule,
    Solution,
    Status,
    TransformInitFn,
    TransformUpdateExtraArgsFn,
    TransformUpdateFn,
    Updates,
)
from jaxopt_ko.wrappers import (
    microbatching,
)
from jaxopt_ko.wrappers.accumulation import (
    ApplyEvery,
    MultiSteps,
    MultiStepsState,
    ShouldSkipUpdateFunction,
    apply_every,
    skip_large_updates,
    skip_not_finite,
)
from jaxopt_ko.wrappers.ascent import maximize
from jaxopt_ko.wrappers.averaging import (
    incremental_update,
    periodic_update,
)
from jaxopt_ko.wrappers.backward import (
    scale_gradient,
)
from jaxopt_ko.wrappers.cautious import CautiousState, cautious
from jaxopt_ko.wrappers.ema_nesterov import EmaNesterovState, ema_nesterov, ema_nesterov_eval_params
from jaxopt_ko.wrappers.guards import (
    ApplyIfFiniteState,
    ConditionallyMaskState,
    ConditionallyTransformState,
    ConditionFn,
    apply_if_finite,
    conditionally_mask,
    conditionally_transform,
)
from jaxopt_ko.wrappers.interop import to_optax
from jaxopt_ko.wrappers.layouts import (
    SplitRealAndImaginaryState,
    flatten,
    split_real_and_imaginary,
)
from jaxopt_ko.wrappers.lookahead import LookaheadParams, LookaheadState, lookahead
from jaxopt_ko.wrappers.masks import (
    freeze,
    selective_transform,
)
from jaxopt_ko.wrappers.mechanic import MechanicState, mechanize
from jaxopt_ko.wrappers.microbatching import (
    microbatch,
)
from jaxopt_ko.wrappers.plateau import (
    ReduceLROnPlateauState,
    reduce_on_plateau,
)
from jaxopt_ko.wrappers.primal_averaging import (
    GeneralizedPrimalAveragingState,
    PrimalAveragesState,
    generalized_primal_averaging,
    generalized_primal_averaging_eval_params,
)
from jaxopt_ko.wrappers.privacy import (
    DifferentiallyPrivateAggregateState,
    differentially_private_aggregate,
    dpsgd,
)
from jaxopt_ko.wrappers.reporting import (
    MonitorState,
    SnapshotState,
    measure_with_ema,
    monitor,
    snapshot,
)
from jaxopt_ko.wrappers.routing import Group, Routed, explain, route
from jaxopt_ko.wrappers.schedule_free import (
    ScheduleFreeState,
    schedule_free,
    schedule_free_adamw,
    schedule_free_eval_params,
    schedule_free_sgd,
)
from jaxopt_ko.wrappers.sharpness import (
    SAMState,
    sam,
)

__all__ = [
    "KKT",
    "ROLES",
    "AdaptiveGradClipState",
    "AddDecayedWeightsState",
    "AddNoiseState",
    "ApplyEvery",
    "ApplyIfFiniteState",
    "AugmentedLagrangianState",
    "AverageParamsState",
    "BacktrackingLinesearchInfo",
    "BatchNorm",
    "BatchNormParams",
    "BatchNormState",
    "COCOBState",
    "CautiousState",
    "ClipByGlobalNormState",
    "ClipState",
    "Code",
    "ConditionFn",
    "ConditionallyMaskState",
    "ConditionallyTransformState",
    "DAdaptAdamWState",
    "DescentState",
    "DifferentiallyPrivateAggregateState",
    "DoGState",
    "DoWGState",
    "EmaNesterovState",
    "EmaState",
    "EmptyState",
    "Evaluations",
    "FactoredState",
    "GaLoreDimensionNumbers",
    "GaLoreState",
    "GeneralizedPrimalAveragingState",
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "Group",
    "HutchinsonState",
    "Hyper",
    "HyperballState",
    "Info",
    "InjectHyperparamsState",
    "InjectStatefulHyperparamsState",
    "InteriorPointState",
    "LBFGSBState",
    "LeastSquaresState",
    "LinearCgState",
    "LookaheadParams",
    "LookaheadState",
    "MadgradState",
    "MaskOrFn",
    "MaskedNode",
    "MaskedState",
    "MatrixAxes",
    "MechanicState",
    "MomoAdamState",
    "MomoState",
    "MonitorState",
    "MultiSteps",
    "MultiStepsState",
    "MultiTransformState",
    "Multipliers",
    "MuonDimensionNumbers",
    "MuonState",
    "NonNegativeParamsState",
    "NormalizeState",
    "OptState",
    "Params",
    "PartitionState",
    "PrimalAveragesState",
    "ProdigyState",
    "ProximalGradientState",
    "QKHeads",
    "QuadraticState",
    "ReduceLROnPlateauState",
    "Routed",
    "SAMState",
    "ScalarOrSchedule",
    "ScaleByAdaDeltaState",
    "ScaleByAdaMuonState",
    "ScaleByAdamState",
    "ScaleByAdanState",
    "ScaleByAdemamixState",
    "ScaleByAmsgradState",
    "ScaleByApolloState",
    "ScaleByBacktrackingLinesearchState",
    "ScaleByBeliefState",
    "ScaleByBfgsState",
    "ScaleByDionState",
    "ScaleByDistanceOverGradientsState",
    "ScaleByKlShampooState",
    "ScaleByKlSoapState",
    "ScaleByKronState",
    "ScaleByLBFGSState",
    "ScaleByLionState",
    "ScaleByNadamState",
    "ScaleByNewtonCgState",
    "ScaleByNewtonState",
    "ScaleByNonlinearCgState",
    "ScaleByNorMuonState",
    "ScaleByNovogradState",
    "ScaleByOptimisticGradientState",
    "ScaleByRStdDevState",
    "ScaleByRStdDevWithCountState",
    "ScaleByRmsState",
    "ScaleByRmsWithCountState",
    "ScaleByRpropState",
    "ScaleByRssState",
    "ScaleBySM3State",
    "ScaleByScheduleState",
    "ScaleByShampooState",
    "ScaleBySimplifiedAdEMAMixState",
    "ScaleBySoapState",
    "ScaleBySplusState",
    "ScaleByTrustRatioState",
    "ScaleByZoomLinesearchState",
    "ScaleState",
    "Schedule",
    "ScheduleFreeState",
    "ScheduledState",
    "ShouldSkipUpdateFunction",
    "SnapshotState",
    "Solution",
    "SophiaState",
    "SplitRealAndImaginaryState",
    "StatefulSchedule",
    "Status",
    "TraceState",
    "TransformInitFn",
    "TransformUpdateExtraArgsFn",
    "TransformUpdateFn",
    "TrustRegionState",
    "Updates",
    "WeightDecaySchedule",
    "WrappedSchedule",
    "WrappedScheduleState",
    "ZeroNansState",
    "ZoomLinesearchInfo",
    "acprop",
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamaxw",
    "adamc",
    "adamuon",
    "adamw",
    "adan",
    "adaptive_grad_clip",
    "add_cautious_decayed_weights",
    "add_corrected_decayed_weights",
    "add_decayed_weights",
    "add_noise",
    "ademamix",
    "adopt",
    "amsgrad",
    "apollo",
    "apply_every",
    "apply_if_finite",
    "apply_updates",
    "augmented_lagrangian",
    "average_params",
    "averaged_params",
    "batch_norm",
    "bfgs",
    "bias_correction",
    "catalog",
    "cautious",
    "centralize",
    "cg",
    "chain",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "clip_by_norm",
    "cocob",
    "conditionally_mask",
    "conditionally_transform",
    "constant_schedule",
    "contrib",
    "cosine_decay_schedule",
    "cosine_distance",
    "cosine_onecycle_schedule",
    "cosine_similarity",
    "ctc_loss",
    "ctc_loss_with_forward_probs",
    "dadapt_adamw",
    "data",
    "debug",
    "descent",
    "diagnose",
    "differentially_private_aggregate",
    "dion",
    "dog",
    "dowg",
    "dpsgd",
    "ema",
    "ema_nesterov",
    "ema_nesterov_eval_params",
    "errors",
    "eval_params",
    "explain",
    "exponential_decay",
    "flatten",
    "freeze",
    "fromage",
    "galore",
    "gauss_newton",
    "generalized_kl_divergence",
    "generalized_primal_averaging",
    "generalized_primal_averaging_eval_params",
    "global_norm",
    "hinge_loss",
    "huber_loss",
    "hutchinson_estimator_diag_hessian",
    "hyperball",
    "identity",
    "incremental_update",
    "init_empty_state",
    "inject_hyperparams",
    "inject_stateful_hyperparams",
    "interior_point",
    "inverse_sqrt_schedule",
    "inverse_time_decay",
    "join_schedules",
    "keep_in",
    "keep_params_nonnegative",
    "kl_divergence",
    "kl_shampoo",
    "kl_soap",
    "l2_loss",
    "labels_by_path",
    "lamb",
    "landscapes",
    "lars",
    "lbfgs",
    "lbfgsb",
    "leafwise",
    "learning_rate",
    "learning_rates",
    "least_squares",
    "levenberg_marquardt",
    "linear_onecycle_schedule",
    "linear_program",
    "linear_schedule",
    "lion",
    "log_cosh",
    "lookahead",
    "loop",
    "losses",
    "madgrad",
    "masked",
    "matrix_inverse_pth_root",
    "maximize",
    "mean_squared_error",
    "measure_with_ema",
    "mechanize",
    "microbatch",
    "microbatching",
    "minimize",
    "momo",
    "momo_adam",
    "monitor",
    "multi_normal",
    "multi_transform",
    "muon",
    "nadam",
    "nadamw",
    "named_chain",
    "newton",
    "newton_cg",
    "nnls",
    "noisy_sgd",
    "nonlinear_cg",
    "normalization",
    "normalize",
    "normalize_by_update_norm",
    "normuon",
    "novograd",
    "ntxent",
    "numerics",
    "optimistic_adam_v2",
    "optimistic_gradient_descent",
    "orthogonalize",
    "partition",
    "per_example_global_norm_clip",
    "per_example_layer_norm_clip",
    "periodic_update",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polyak_sgd",
    "polynomial_schedule",
    "power_iteration",
    "prodigy",
    "projected_gradient",
    "projections",
    "prox_elastic_net",
    "prox_group_lasso",
    "prox_lasso",
    "prox_non_negative_lasso",
    "prox_non_negative_ridge",
    "prox_none",
    "prox_nuclear_norm",
    "prox_ridge",
    "proximal_gradient",
    "psgd_kron",
    "qk_clip",
    "quadratic_program",
    "radam",
    "reduce_on_plateau",
    "rmsprop",
    "roles_of",
    "root",
    "route",
    "rprop",
    "safe_increment",
    "safe_norm",
    "safe_root_mean_squares",
    "safe_softmax_cross_entropy",
    "sam",
    "scale",
    "scale_by_acprop",
    "scale_by_adadelta",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_adamuon",
    "scale_by_adan",
    "scale_by_ademamix",
    "scale_by_adopt",
    "scale_by_amsgrad",
    "scale_by_apollo",
    "scale_by_backtracking_linesearch",
    "scale_by_belief",
    "scale_by_bfgs",
    "scale_by_cocob",
    "scale_by_dion",
    "scale_by_distance_over_gradients",
    "scale_by_dog",
    "scale_by_dowg",
    "scale_by_factored_rms",
    "scale_by_galore",
    "scale_by_group",
    "scale_by_hager_zhang_linesearch",
    "scale_by_kl_shampoo",
    "scale_by_kl_soap",
    "scale_by_kron",
    "scale_by_lbfgs",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_lmo",
    "scale_by_madgrad",
    "scale_by_muon",
    "scale_by_nadam",
    "scale_by_newton",
    "scale_by_newton_cg",
    "scale_by_nonlinear_cg",
    "scale_by_normuon",
    "scale_by_novograd",
    "scale_by_optimistic_gradient",
    "scale_by_param_block_norm",
    "scale_by_param_block_rms",
    "scale_by_polyak",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_rprop",
    "scale_by_rss",
    "scale_by_schedule",
    "scale_by_shampoo",
    "scale_by_sign",
    "scale_by_simplified_ademamix",
    "scale_by_sm3",
    "scale_by_soap",
    "scale_by_sophia",
    "scale_by_splus",
    "scale_by_stddev",
    "scale_by_trust_ratio",
    "scale_by_yogi",
    "scale_by_zoom_linesearch",
    "scale_gradient",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_sgd",
    "schedules",
    "scion",
    "selective_transform",
    "set_to_zero",
    "sgd",
    "sgdr_schedule",
    "shampoo",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "sign_sgd",
    "signum",
    "simplified_ademamix",
    "skip_large_updates",
    "skip_not_finite",
    "sm3",
    "smooth_labels",
    "snapshot",
    "soap",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "solve",
    "sophia",
    "split_real_and_imaginary",
    "splus",
    "squared_error",
    "stateless",
    "stateless_with_tree_map",
    "states",
    "step_count",
    "to_optax",
    "trace",
    "transform",
    "transforms",
    "tree",
    "tree_map_params",
    "tree_utils",
    "types",
    "unitwise_clip",
    "unitwise_norm",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
    "value_and_grad_from_state",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
    "warmup_stable_decay_schedule",
    "with_extra_args_support",
    "yogi",
    "zero_nans",
]

for _room in (states, tree):
    published(_room.__name__, vars(_room), _room.__all__)
published(__name__, globals(), __all__)
