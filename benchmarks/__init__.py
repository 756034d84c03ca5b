"""What the README's figures come from: each peer beside us, in turn, in the same run."""
