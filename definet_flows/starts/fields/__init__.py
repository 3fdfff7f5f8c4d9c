"""The pre-relaxer `fields`: displacement fields from records, carried and added."""

from definet_flows.starts.fields.prerelaxer import FieldsPreRelaxer

__all__ = ["FieldsPreRelaxer"]
