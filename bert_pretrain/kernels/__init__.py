"""Operations that we write ourselves: fused, with gradients and dropout."""
