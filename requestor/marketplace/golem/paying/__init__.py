"""What is billed: held against what was agreed, accepted, settled, and swept up after crashes."""
