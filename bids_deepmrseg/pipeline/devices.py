"""Which runs have workers, one per device, and what these take from the nodes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bids_deepmrseg.pipeline.asking import open_worker_networks
from bids_deepmrseg.pipeline.plugin import PluginChoice
from bids_deepmrseg.pipeline.workers import Workers
from bids_deepmrseg.settings import MIN_MEMORY_GB, RunSettings

logger = logging.getLogger(__name__)

LOCAL_PLUGINS = ("Linear", "MultiProc")  # whose nodes run on this host, as processes of this run
CUDA_GB = 2.0  # of the host, per process: libraries and buffers of CUDA; estimated, not measured


def needs_workers(settings: RunSettings, choice: PluginChoice | None) -> bool:
    """Whether processes that stay run the networks.

    A single CPU has none: each case then runs its networks in a process of its own, which nothing
    else depends on. Nodes on other hosts cannot reach them.
    """
    is_local = choice is None or choice.name in LOCAL_PLUGINS
    return is_local and settings.devices != ("cpu",)


@contextmanager
def workers_of(settings: RunSettings, choice: PluginChoice | None) -> Iterator[str | None]:
    """Workers while a run lasts, and their address; ``None`` for a run without.

    Parameters
    ----------
    settings
        Give devices and CPUs.
    choice
        The user's plugin, if there is one.
    """
    n_devices = len(settings.devices)
    if not needs_workers(settings, choice):
        if settings.devices != ("cpu",):
            logger.warning(
                "the nodes of this plugin may be on other hosts: each runs its networks itself, on "
                "%s",
                settings.devices[0],
            )
        yield None
        return
    if settings.n_procs < n_devices:
        logger.warning(
            "%d CPUs (--n-procs) keep no more than %d of %d devices busy",
            settings.n_procs,
            settings.n_procs,
            n_devices,
        )
    n_threads = max(1, min(settings.omp_nthreads, settings.n_procs // n_devices))
    with Workers(settings.devices, n_threads=n_threads, opener=open_worker_networks) as workers:
        yield workers.address


def left_by_workers(settings: RunSettings, workers: str | None, case_gb: float) -> RunSettings:
    """The same settings with the memory that workers leave for nodes.

    Parameters
    ----------
    settings
        With the memory of the run.
    workers
        Their address; ``None`` where there are none.
    case_gb
        What the largest case is expected to need: no worker holds more of it than that.
    """
    if workers is None:
        return settings
    each_gb = case_gb + (0 if settings.devices[0] == "cpu" else CUDA_GB)
    left_gb = settings.memory_gb - len(settings.devices) * each_gb
    return replace(settings, memory_gb=max(MIN_MEMORY_GB, left_gb))
