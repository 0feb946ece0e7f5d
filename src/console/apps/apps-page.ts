/**
 * The list of web apps as a page: links, and nothing that runs.
 *
 * Invariant: names are letters, digits and hyphens before they come here, and what comes from the request
 * (the host) is escaped. Cost: one line a link.
 */

export interface AppLink {
  readonly name: string;
  readonly url: string;
}

export function appsPage(links: readonly AppLink[]): string {
  const items = links.map(({ name, url }) => `<li><a href="${escaped(url)}">${name}</a></li>`);
  const list =
    links.length === 0 ? '<p>No web app is registered.</p>' : `<ul>${items.join('')}</ul>`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Web apps</title>
<main>
<h1>Web apps</h1>
${list}
<p><a href="/console/">Console</a></p>
</main>
</html>
`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
