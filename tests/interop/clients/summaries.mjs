// What a step saw, told so plainly that two runs of it give the same bytes: no times, ids or ports.

import { createHash } from 'node:crypto';

export const sha256 = data => createHash('sha256').update(data).digest('hex');

/** JSON with sorted keys, so that equal values have equal text. */
export const canonical = value =>
    JSON.stringify(value, (_, inner) =>
        inner && typeof inner === 'object' && !Array.isArray(inner)
            ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
            : inner
    );

/** Takes out what differs between two runs. */
export const plain = text =>
    text
        .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '<id>')
        .replace(/http:\/\/(127\.0\.0\.1|localhost):\d+[^\s"]*/g, '<url>')
        .replace(/created at .*/g, 'created at <time>');

/** Short texts to read, long ones by their digest. */
export const brief = text =>
    text.length <= 300 ? plain(text) : { length: text.length, sha256: sha256(plain(text)) };

/** Names to read, and a digest by which any other change of the list is noticed. */
export const listed = (items, key) => ({
    names: items.map(item => item[key]).sort(),
    sha256: sha256(canonical(items.toSorted((a, b) => (a[key] < b[key] ? -1 : 1))))
});

/** The result of a tool call. */
export const answer = result => ({
    ...(result.isError && { isError: true }),
    text: brief(result.content.map(part => part.text).join('\n')),
    ...(result.structuredContent && { structured: result.structuredContent })
});

export const failure = error => ({
    ...(error.code !== undefined && { code: error.code }),
    error: brief(error.message ?? String(error))
});
