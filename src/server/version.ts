/**
 * The versions that the server reports: its own, and that of the Redis whose commands it implements. Clients
 * enable features by the latter.
 */
export const REDIS_VERSION = '8.10.0';
export const RIVULET_VERSION = '0.1.0';
