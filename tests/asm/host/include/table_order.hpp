// What AITER's launch code asks of its kernel maps, in the order of the table.
#pragma once
#include <algorithm>
#include <initializer_list>
#include <utility>
#include <vector>

template <class Key, class Value>
struct TableOrder : std::vector<std::pair<Key, Value>>
{
    TableOrder(std::initializer_list<std::pair<Key, Value>> rows) : std::vector<std::pair<Key, Value>>(rows) {}
    auto find(const Key& key)
    {
        return std::find_if(this->begin(), this->end(), [&](const auto& row) { return row.first == key; });
    }
};
