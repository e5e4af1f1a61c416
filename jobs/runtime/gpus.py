"""Which tasks Spark gives a GPU to: those of the stages that run networks, where it can."""

from typing import Final

from pyspark import SparkContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests

from jobs.runtime.config import Models, is_local
from jobs.runtime.errors import ConfigError
from jobs.runtime.place import EXECUTOR_GPUS

TASK: Final = "spark.task.resource.gpu.amount"
CORES: Final = "spark.executor.cores"
# Masters under which a stage can ask for more than others: ResourceProfileManager of Spark 4.1.
_BY_STAGE: Final = ("spark://", "local-cluster[", "yarn", "k8s://")


def share(models: Models, context: SparkContext) -> ResourceProfile | None:
    """What a stage that runs networks asks Spark for, for each of its tasks.

    Where only executors have GPUs, those stages' tasks share them and all others need none. With
    them they share the executor's cores, if Spark is told how many, which decode. Where Spark's own
    setting gives tasks of all stages a share, or nobody has one, nothing is asked.

    Args:
        models: where networks are to run, and how many tasks share a GPU.
        context: of the session.

    Raises:
        ConfigError: the master cannot give GPUs to single stages; or they must run on a GPU and
            nobody has one.
    """
    master = str(context.master)
    if models.device == "cpu" or is_local(master):
        return None
    conf = context.getConf()
    held = int(conf.get(EXECUTOR_GPUS, "0"))
    if held == 0:
        if models.device == "cuda":
            raise ConfigError(
                f"models.device got cuda under master {master} without {EXECUTOR_GPUS}; allowed"
                " where Spark gives GPUs to executors: set it, or models.device to auto or cpu"
            )
        return None
    if conf.get(TASK) is not None:
        return None
    if not master.startswith(_BY_STAGE):
        raise ConfigError(
            f"{EXECUTOR_GPUS} got {held} without {TASK} under master {master}; allowed"
            " under standalone, YARN and Kubernetes, where single stages can have GPUs: set"
            f" {TASK}, and tasks of all stages share them"
        )
    least = int(conf.get("spark.task.cpus", "1"))
    cores = max(least, int(conf.get(CORES, "1")) // (held * models.tasks_per_gpu))
    asked = TaskResourceRequests().cpus(cores).resource("gpu", 1 / models.tasks_per_gpu)
    return ResourceProfileBuilder().require(asked).build
