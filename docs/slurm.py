"""A Dask cluster of SLURM jobs, for --dask_scheduler (extra `cluster`).

    python docs/slurm.py &          # prints tcp://HOST:PORT; its jobs end when it is stopped
    hypoperfusion preprocess --cohort=RAW --out=MNI --dask_scheduler=tcp://HOST:PORT

Its job script was read, not run, since no SLURM was available.
"""

import time

from dask_jobqueue import SLURMCluster

JOBS = 20

if __name__ == "__main__":
    cluster = SLURMCluster(
        queue="normal",  # your partition
        cores=1,
        processes=1,
        memory="4GB",
        walltime="02:00:00",
        job_script_prologue=["source .venv/bin/activate", "export OMP_NUM_THREADS=1"],
    )
    print(cluster.job_script())
    cluster.scale(jobs=JOBS)
    print(cluster.scheduler_address, flush=True)
    while True:
        time.sleep(60)
