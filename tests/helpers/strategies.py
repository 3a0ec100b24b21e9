"""Distribution strategies over the CPU's devices, and a stand-in for hosts."""

import tensorflow as tf

from bert_pretrain.devices import distribution, distribution_config


def strategy_of(num_replicas):
    """The strategy of a run with that many replicas, one on each device."""
    return distribution.build_strategy(
        distribution_config.DistributionConfig(num_cpu_replicas=num_replicas)
    )


class Hosts:
    """Stands in for a strategy with one replica on each of n hosts."""

    def __init__(self, num_hosts):
        self._num_hosts = num_hosts

    def distribute_datasets_from_function(self, build):
        return [
            build(
                tf.distribute.InputContext(
                    num_input_pipelines=self._num_hosts,
                    input_pipeline_id=index,
                    num_replicas_in_sync=self._num_hosts,
                )
            )
            for index in range(self._num_hosts)
        ]
