"""The CDK app's parts: stages, routes, functions, constructs, stacks. It meets the product in strings only."""
