"""Read and write the files of other benchmark tools."""
