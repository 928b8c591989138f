package chaos

import "time"

// balancerLag is how often the load balancer looks at each node.
const balancerLag = 100 * time.Millisecond
