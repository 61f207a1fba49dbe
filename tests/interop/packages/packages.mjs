// Where the npm packages of these fixtures are found.
//
// They are never installed into the tree: the Rust runner installs them elsewhere (package.json, package-lock.json
// and .npmrc copied there, then `npm ci`) and names that folder in INTEROP_PACKAGES. ES modules resolve bare
// names from the importing file's own folder and know no search path, hence `require` anchored at that folder.

import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const home = process.env.INTEROP_PACKAGES ?? fileURLToPath(new URL('.', import.meta.url));

/** `require` as a file in the folder of the installed packages would see it. */
export const require = createRequire(join(home, 'package.json'));
