"""How attention is computed where no kernel runs: streamed over blocks, in whole rows, over gathered pages, by cuDNN."""
