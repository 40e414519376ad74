"""Working on shards: searches and ascents driven within their budgets, final images judged."""
