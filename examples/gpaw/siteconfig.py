"""How GPAW is built against Debian's libxc-dev, libfftw3-dev and libopenblas-dev, without MPI: see docs/gpaw.md."""

compiler = "g++"
mpi = False
scalapack = False
fftw = True
libraries = ["xc", "fftw3", "openblas"]
