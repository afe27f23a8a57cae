"""The sections of `bench.gpu_proof`, which says what fastrdm does on a GPU.

Read `setting` first: the device, the stimuli with their subjects, and how much to measure. `networks` builds what runs,
`exact` has the float64 answers to compare with. The sections, in their order, are `environment`, `parity`, `rates`,
`sweeps`, `conditions`, `tensors`, `onnx_device` and `training`. `pipeline` runs checkpoints one after the other, `busy`
measures for how long the device computes, and `resnet20_graph` writes the network as ONNX. `record` writes the rows
that sections yield, within the limits of `limits`, and `goals` compares them with what the project aims at.
"""
