/**
 * Whether the server is ready, as /readyz reports it.
 */
export interface Health {
  /** Why the server is not ready; null = it is. */
  reason: string | null;
}
