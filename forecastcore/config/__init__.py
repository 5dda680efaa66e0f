"""`forecast.yaml` → frozen models; every fault with file, line, column, key, and the nearest valid name.

References such as `${env:NAME}` stay references in these models; see `references`.
"""

from __future__ import annotations

from forecastcore.config.checks import no_identity
from forecastcore.config.loading import FILE_NAME, Reading, absolute_uri, in_order, load, read
from forecastcore.config.models import (
    ENSEMBLE,
    AuditConfig,
    BacktestConfig,
    BudgetConfig,
    CovariateConfig,
    EngineConfig,
    KeepConfig,
    ModelConfig,
    MonitorConfig,
    PluginConfig,
    PluginsConfig,
    PolicyConfig,
    ProjectConfig,
    PromotionConfig,
    QualityConfig,
    RangeConfig,
    SearchConfig,
    SourceConfig,
    TrackingConfig,
    WhenConfig,
    digest,
)
from forecastcore.config.references import Resolver, has_reference, redact, resolve
from forecastcore.config.words import Fault, did_you_mean, explain, nearest, without_value

__all__ = [
    "ENSEMBLE",
    "FILE_NAME",
    "AuditConfig",
    "BacktestConfig",
    "BudgetConfig",
    "CovariateConfig",
    "EngineConfig",
    "Fault",
    "KeepConfig",
    "ModelConfig",
    "MonitorConfig",
    "PluginConfig",
    "PluginsConfig",
    "PolicyConfig",
    "ProjectConfig",
    "PromotionConfig",
    "QualityConfig",
    "RangeConfig",
    "Reading",
    "Resolver",
    "SearchConfig",
    "SourceConfig",
    "TrackingConfig",
    "WhenConfig",
    "absolute_uri",
    "did_you_mean",
    "digest",
    "explain",
    "has_reference",
    "in_order",
    "load",
    "nearest",
    "no_identity",
    "read",
    "redact",
    "resolve",
    "without_value",
]
