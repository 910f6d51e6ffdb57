"""torch_svc: TorchServe 0.12 from its wheel, supervised, with its archives checked and its key kept fresh."""
