/**
 * Which page an address is, and where its code is.
 *
 * Invariant: parts of a path are decoded here and nowhere else; an address without a page shows the
 * page for unknown addresses.
 */
import type { ComponentType } from 'preact';

export interface PageProps {
  /** The parts of the path that are names, in their order. */
  readonly parts: readonly string[];
}

type Load = () => Promise<ComponentType<PageProps>>;

const routes: readonly (readonly [pattern: string, load: Load])[] = [
  ['/', async () => (await import('./pages/overview.tsx')).OverviewPage],
  ['/topics', async () => (await import('./pages/topics/topics.tsx')).TopicsPage],
  ['/topics/:', async () => (await import('./pages/topics/topic.tsx')).TopicPage],
  ['/topics/:/messages', async () => (await import('./pages/topics/browse.tsx')).BrowsePage],
  ['/topics/:/scheduled', async () => (await import('./pages/topics/scheduled.tsx')).ScheduledPage],
  ['/topics/:/groups/:', async () => (await import('./pages/topics/group.tsx')).GroupPage],
  ['/dead', async () => (await import('./pages/dead.tsx')).DeadPage],
  ['/journey', async () => (await import('./pages/find-journey.tsx')).FindJourneyPage],
  ['/journey/:/:', async () => (await import('./pages/journey.tsx')).JourneyPage],
  ['/traces/:', async () => (await import('./pages/trace.tsx')).TracePage],
  ['/services', async () => (await import('./pages/services.tsx')).ServicesPage],
  ['/services/:', async () => (await import('./pages/service.tsx')).ServicePage],
  ['/workflows', async () => (await import('./pages/workflows.tsx')).WorkflowsPage],
  ['/workflows/:/:', async () => (await import('./pages/workflow.tsx')).WorkflowPage],
  ['/server', async () => (await import('./pages/server.tsx')).ServerPage],
  ['/audit', async () => (await import('./pages/audit.tsx')).AuditPage],
];

const missing: Load = async () => (await import('./pages/not-found.tsx')).NotFoundPage;

export function findRoute(path: string): { load: Load; parts: string[] } {
  const given = path === '/' ? [''] : path.slice(1).split('/');
  for (const [pattern, load] of routes) {
    const wanted = pattern.slice(1).split('/');
    if (wanted.length !== given.length) continue;
    if (!wanted.every((each, at) => each === ':' || each === given[at])) continue;
    const parts = given.filter((_, at) => wanted[at] === ':').map(decode);
    if (parts.every((each) => each !== null)) return { load, parts: parts as string[] };
  }
  return { load: missing, parts: [] };
}

function decode(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}
