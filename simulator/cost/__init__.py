"""Operations x machine x stack -> seconds and joules. Pure and vectorised."""
