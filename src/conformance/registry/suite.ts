/**
 * The suite that says which registries conform, failures included.
 *
 * Give it a test runner and a factory of fixtures; it registers one test per case. A case is skipped
 * when its fixture lacks what the case needs; the skip names it.
 */
import { type Runner, registerInContext, withFixture } from '../register-cases.ts';
import { registryCases } from './cases.ts';
import { foreignCases } from './cases-foreign.ts';
import { RegistryContext, type RegistryFixture } from './registry-case.ts';

export { type RegistryCase, RegistryContext, type RegistryFixture } from './registry-case.ts';

export interface RegistrySetup {
  readonly name: string;
  readonly runner: Runner;
  readonly factory: () => Promise<RegistryFixture>;
}

export function registryConformance(setup: RegistrySetup): void {
  withFixture(`${setup.name} registry: conformance`, setup, (fixture) => {
    const cases = [...registryCases, ...foreignCases];
    registerInContext(setup.runner, cases, fixture, (each) => new RegistryContext(each));
  });
}
