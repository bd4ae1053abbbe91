"""One capability each: keyword-only typed inputs, least privilege, nothing done at synth but describing."""
