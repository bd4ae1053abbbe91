"""Orgs: the tenants, their members, invitations, teams, and what is shared with whom."""
