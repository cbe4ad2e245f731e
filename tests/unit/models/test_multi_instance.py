"""MultiInstanceConfig and its dict."""

from stabilize_celery.models.multi_instance import MultiInstanceConfig


def test_a_configuration_survives_its_dict() -> None:
    """to_dict and from_dict are inverse."""
    config = MultiInstanceConfig(count=3, join_threshold=2, completion_condition="completed > 1", max_concurrent=2)

    assert MultiInstanceConfig.from_dict(config.to_dict()) == config


def test_missing_keys_have_their_defaults_and_unknown_ones_are_passed_over() -> None:
    """Dicts of older and newer programs are read."""
    assert MultiInstanceConfig.from_dict({"count": 2, "more": 1}) == MultiInstanceConfig(count=2)
    assert MultiInstanceConfig().sync_on_complete
