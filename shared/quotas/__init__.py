"""What a tenant may have and how fast: plans' limits, quotas held in Postgres, rates for the edge."""
