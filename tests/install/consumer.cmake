# The CMakeLists.txt of somebody else's program; run.sh copies it beside example.c.
cmake_minimum_required(VERSION 3.25)
project(example LANGUAGES C)
find_package(nibble 0.1 REQUIRED)
add_executable(example example.c)
target_link_libraries(example PRIVATE nibble::nibble)
