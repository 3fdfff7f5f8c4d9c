"""Settings of one machine: `~/.definet_flows.yaml`, or environment variables DEFINET_FLOWS_*."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_cache_path, user_data_path
from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)
from yaml import MarkedYAMLError, YAMLError

from definet_flows.errors import InputError
from definet_flows.yaml_file import read_mapping

_PREFIX = "DEFINET_FLOWS_"
_DEFAULT_FILE = "~/.definet_flows.yaml"


class Settings(BaseSettings):
    """Settings read on the machine where a job runs; unknown keys in the file are refused.

    Stores are named here and only here: a job carries a store's *name*, never its credentials.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True, env_nested_delimiter="__")

    record_store: str = Field(default="local", description="name of the store that takes records")
    record_stores: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="maggma Stores by name, as {'@module': ..., '@class': ..., arguments}; 'local' is built in",
    )
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("definet_flows"),
        description="the local records and registered models",
    )
    cache_dir: Path = Field(
        default_factory=lambda: user_cache_path("definet_flows"), description="unpacked data sets, compiled tables"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="where networks predict and train; auto: CUDA where torch finds a card, else the CPU",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then the file that DEFINET_FLOWS_CONFIG names or ~/.definet_flows.yaml."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=settings_file())


def load_settings() -> Settings:
    """Return the settings of this machine.

    Raises
    ------
    InputError
        If the file cannot be read, or holds an unknown key or a value of the wrong type.
    """
    if settings_file().is_file():
        read_mapping(settings_file(), "settings")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        msg = f"settings: {key}: {first['msg']} (see ~/.definet_flows.yaml and {_PREFIX}* variables)"
        raise InputError(msg) from None
    except (YAMLError, SettingsError, OSError, TypeError, ValueError, AttributeError) as error:
        # The message has only the kind and the place of the error: there may be a password beside it.
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        line = f", line {mark.line + 1}" if mark else ""
        path = settings_file()
        msg = f"settings: {path}{line} or a {_PREFIX}* variable cannot be read ({type(error).__name__}): mend it"
        raise InputError(msg) from None


def settings_file() -> Path:
    """Return the file that holds the settings of this machine, whether or not it exists."""
    return Path(os.environ.get(f"{_PREFIX}CONFIG", _DEFAULT_FILE)).expanduser()
