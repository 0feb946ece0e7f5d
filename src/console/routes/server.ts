/**
 * The routes of the server: facts, clients, slow log.
 */
import type { Router } from '../http/router.ts';
import type { ConsoleSource } from '../sources/source.ts';
import { needed } from './parameters.ts';

export function serverRoutes(router: Router, source: ConsoleSource): void {
  router.add('GET', 'server', ({ viewer }) => needed(source, 'server')(viewer));
  router.add('GET', 'clients', ({ viewer }) => needed(source, 'clients')(viewer));
  router.add('GET', 'slowlog', ({ viewer }) => needed(source, 'slowlog')(viewer));
}
